"""YAML by libyaml: params.yaml takes half a second by PyYAML's own code, and many tests read it."""

from pathlib import Path

import yaml

from domain_experts.yaml_files import LOADER

PARAMS = Path(__file__).parents[1] / "params.yaml"
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def read(path=PARAMS):
    """The values of a file, by default those of the project's params.yaml."""
    return yaml.load(path.read_text(), LOADER)


def write(values, path=Path("params.yaml"), sort_keys=False):
    """Write values, by default as the params.yaml of the working directory."""
    path.write_text(yaml.dump(values, Dumper=DUMPER, sort_keys=sort_keys))
