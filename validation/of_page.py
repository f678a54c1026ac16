"""For pytest (`-p validation.of_page`): only the tests of the page that the environment's REFFLOW_PAGE names.

They have the page in their id, as in test_page[Tanh-float64], or stand in a file whose tests are of all pages at once.
"""

import os

OF_ALL = ("test_prose", "test_readme", "test_notation")


def pytest_collection_modifyitems(items):
    items[:] = [item for item in items if takes(item, os.environ["REFFLOW_PAGE"])]


def takes(item, name):
    parameters = item.name.partition("[")[2].rstrip("]").split("-")
    return name in parameters or item.path.stem in OF_ALL
