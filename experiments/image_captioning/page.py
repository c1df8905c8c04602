"""The results page."""

from experiments.common.experiment import Page

PAGE = Page(lambda records: "")
