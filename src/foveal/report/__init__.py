"""Pages, pictures and files for people. A file's name says what it makes:

- ``page*.py``: HTML pages, complete in one file, and their sections.
- ``findings*.py``: what a trained network gets right and wrong, for the page of its run; one module per task.
- ``history.py``: what the logs of a run say.
- ``draw*.py``: pictures drawn on photographs: boxes, masks, label maps, legends.
- ``chart_*.py``: charts made with matplotlib.
- ``evaluation*.py``, ``details*.py``: the files of one task's evaluation: ``results.json``, charts, tables, examples.
"""

from foveal.report.page import page, section, write_page

__all__ = ["page", "section", "write_page"]
