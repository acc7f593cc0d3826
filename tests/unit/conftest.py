"""Unit tests provoke errors on purpose: their log lines, with rendered tracebacks, would cost more than the tests."""

import logging

import pytest
import structlog


@pytest.fixture(autouse=True)
def _silence():
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)
