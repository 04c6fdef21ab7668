"""YAML: what it means, as PyYAML has it, and what is refused."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from projects import ROOT

from domain_experts.errors import UserError
from domain_experts.params import load
from domain_experts.reporting.claims import _read
from domain_experts.study_file import read
from domain_experts.yaml_files import parse_yaml, read_yaml

LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=9)
VALUES = st.recursive(
    LEAVES, lambda own: st.lists(own, max_size=4) | st.dictionaries(st.text(), own, max_size=4)
)


@given(VALUES)
def test_what_yaml_means_is_what_pyyaml_says(value):
    assert parse_yaml(yaml.safe_dump(value)) == value


@given(st.dictionaries(st.text("ab1", min_size=1), st.integers(), min_size=1), st.data())
def test_a_key_that_is_there_twice_is_refused_wherever_it_is(mapping, data):
    twice = data.draw(st.sampled_from(sorted(mapping)))
    lines = [f"'{key}': {value}" for key, value in mapping.items()]
    lines.insert(data.draw(st.integers(0, len(lines))), f"'{twice}': 0")
    text = "outer:\n  - inner:\n" + "".join(f"      {line}\n" for line in lines)
    with pytest.raises(yaml.YAMLError, match=rf"line \d+: the key '{twice}' is there already"):
        parse_yaml(text)


def test_a_merged_key_may_be_replaced(tmp_path):
    assert parse_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}")["b"] == {"x": 1, "y": 3}
    assert parse_yaml("") is None


@pytest.mark.parametrize("text", ["a: [", "a: !!python/name:os.system", "a: \x00", "- b\na: 1"])
def test_what_is_no_yaml_names_the_file(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError, match=r"a\.yaml is not valid YAML"):
        read_yaml(tmp_path / "a.yaml")


STUDY = """\
files: log.csv
domain: country
tasks: {click: click}
fields: {user: {}}
"""


def params(old, new):
    text = (ROOT / "params.yaml").read_text()
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("use", "text", "said"),
    [
        (
            load,
            lambda: params("device: ", "tier: quick\ndevice: "),
            r"line \d+: the key 'tier' is there already, in line \d+",
        ),
        (
            load,
            lambda: params("configurations:\n", "configurations:\n  x: {all: {a: 1, a: 2}}\n"),
            r"line \d+: the key 'a' is there already",
        ),
        (read, lambda: STUDY + "seeds: 2\nseeds: 3\n", "line 6: the key 'seeds' is there already"),
        (read, lambda: STUDY + "seeds: [1, 2, 1]\n", r"seeds: the same value twice in \[1, 2, 1\]"),
        (read, lambda: STUDY + f"seeds: [{2**63}]\n", r"seeds\.0: .*less than 9223372036854775808"),
        (read, lambda: STUDY + "seeds: 100000000000\n", "seeds: .*less than or equal to 1000"),
        (read, lambda: STUDY + f"split: {{seed: {2**64}}}\n", r"split\.seed: .*less than"),
        (
            lambda path: list(_read(path)),
            lambda: "paper: A\npaper: B\nclaims: []\n",
            "line 2: the key 'paper' is there already, in line 1",
        ),
    ],
)
def test_bad_files_are_refused_by_file_and_line_or_key(tmp_path, use, text, said):
    path = tmp_path / "own.yaml"
    path.write_text(text())
    with pytest.raises(UserError, match=said) as refused:
        use(path)
    assert str(path) in str(refused.value)


def test_seeds_of_params_are_distinct_and_of_64_bits(tmp_path):
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    path = tmp_path / "params.yaml"
    for seeds, said in (
        ([1, 1], r"tiers\.smoke\.seeds: the same value twice"),
        ([2**63], r"tiers\.smoke\.seeds\.0: Input should be less than"),
        ([2**63 - 1], None),
    ):
        values["tiers"]["smoke"]["seeds"] = seeds
        path.write_text(yaml.safe_dump(values))
        if said:
            with pytest.raises(UserError, match=said):
                load(path)
        else:
            assert load(path).tiers["smoke"].seeds == (2**63 - 1,)
    values["experiments"]["main"]["seeds"] = {"smoke": [3, 3]}
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(UserError, match=r"experiments\.main\.seeds\.smoke: the same value twice"):
        load(path)
