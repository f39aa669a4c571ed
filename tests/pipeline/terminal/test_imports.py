"""Heavy imports, and what the garbage collector does meanwhile and afterwards."""

import gc
import weakref

import pytest

from pipeline.terminal import imports


class Cycle:
    def __init__(self):
        self.itself = self


@pytest.fixture(autouse=True)
def _thaw():
    yield
    gc.unfreeze()


def test_nothing_is_collected_while_modules_load_and_what_they_make_stays():
    before = gc.get_freeze_count()
    with imports.gc_paused():
        assert not gc.isenabled()
        made = weakref.ref(Cycle())
    assert gc.isenabled()
    assert gc.get_freeze_count() > before
    gc.collect()
    assert made() is not None


def test_what_is_made_afterwards_is_collected_again():
    with imports.gc_paused():
        pass
    made = weakref.ref(Cycle())
    gc.collect()
    assert made() is None


def test_a_failed_import_leaves_the_collector_on():
    with pytest.raises(ImportError), imports.gc_paused():
        import nnclr_has_no_such_module  # noqa: F401
    assert gc.isenabled()
