"""Silence within a run that has a bar of its own."""

import logging
import os

import pytest

from src.core import progress
from src.core.errors import InputError


def test_silence_is_undone_after_an_error(monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "0")
    with pytest.raises(InputError), progress.silenced():
        assert os.environ["TQDM_DISABLE"] == "1"
        assert not logging.getLogger("src").isEnabledFor(logging.INFO)
        raise InputError("a fit failed")
    assert os.environ["TQDM_DISABLE"] == "0"
    assert logging.getLogger("src").isEnabledFor(logging.WARNING)
    assert logging.root.manager.disable == logging.NOTSET
