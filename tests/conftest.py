"""How the tests are run: groups of workers, servers of forks, and where fixtures come from."""

import gc
import os

import pytest
from hypothesis import HealthCheck, settings
from projects import FORKS, end_forks, start_forks

pytest.register_assert_rewrite("common")

# a busy machine is no failure
settings.register_profile("default", deadline=None)
# `make fuzz`
settings.register_profile(
    "fuzz",
    deadline=None,
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "20000")),
    database=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("default")

# what tests of several files share, and takes seconds to make
SHARED = ("finished", "fabricated_tree", "few_runs_tree", "smoke_tree", "trained")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Send all tests of what is shared, or of a module's own fixture, to one worker.

    It makes that once. Of several groups a test goes to the first: in two it would be in a third.
    """
    for item in items:
        known = item._fixtureinfo.name2fixturedefs
        shared = [name for name in SHARED if name in known]
        if not shared and any(made[-1].scope == "module" for made in known.values()):
            shared = [item.module.__name__]
        if shared:
            item.add_marker(pytest.mark.xdist_group(shared[0]))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config):
    """Start the processes that commands are forks of, once for all workers."""
    # pytest clears its folders away, whatever ended the run that made them
    folder = config._tmp_path_factory.mktemp("forks")
    start_forks(folder)
    os.environ[FORKS] = str(folder)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish():
    """End them: a worker of xdist ends without `atexit`."""
    end_forks()


def pytest_configure(config):
    """Load the fixtures where tests run: the process that starts workers has no need of torch."""
    if not config.getoption("numprocesses", None):
        # modules and tests stay: to look through them for garbage, again and again, takes long
        gc.disable()
        config.pluginmanager.import_plugin("common")


def pytest_collection_finish():
    """From now on garbage is looked for among what tests make."""
    gc.freeze()
    gc.enable()
