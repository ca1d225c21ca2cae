"""The results tables of both papers as data: what the authors report of their networks and of others.

Every figure keeps the digits it was printed with, since "12.8" and "12.80" claim different things. Of names, citations
and "(Ours)" are left out.
"""

from .columns import Column
from .library import paper_table, paper_tables
from .table import Figure, PaperTable, Row

__all__ = ["Column", "Figure", "PaperTable", "Row", "paper_table", "paper_tables"]
