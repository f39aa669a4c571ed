"""The planted bugs of `make soak` fit the present sources. That a soak finds them, only a soak can show."""

from pathlib import Path

from tests.soak.__main__ import FAULTS
from tests.soak.plants import PLANTS


def test_each_planted_bug_fits_the_sources_and_names_faults_that_exist():
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names)
    for plant in PLANTS.values():
        assert Path(plant.slip.file).read_text(encoding="utf-8").count(plant.slip.old) == 1, plant.slip.what
        assert set(plant.faults) <= set(names)
