"""How is a sweep shown to somebody else? HTML pages that need no network and no files; one module for each part."""

from dashboards.page.passports import render_passports
from dashboards.page.report import render

__all__ = ["render", "render_passports"]
