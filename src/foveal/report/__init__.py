"""Pages for people: one HTML file each, complete in itself."""

from foveal.report.page import page, section, write_page

__all__ = ["page", "section", "write_page"]
