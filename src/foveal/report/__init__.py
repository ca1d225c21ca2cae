"""Pages, pictures and files for people. A file's name says what it makes:

- ``page*.py``: HTML pages, complete in one file, and their sections.
- ``draw*.py``: pictures drawn on photographs: boxes, masks, label maps, legends.
- ``chart_*.py``: charts made with matplotlib.
- ``evaluation*.py``: the files of one task's evaluation: ``results.json``, charts and example pictures.
"""

from foveal.report.page import page, section, write_page

__all__ = ["page", "section", "write_page"]
