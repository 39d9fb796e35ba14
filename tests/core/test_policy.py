from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpqdeploy.core import ConfigError, Geometry, Policy, Precision, Site
from tests.core.test_precision import PRECISIONS

POLICIES = st.builds(
    Policy,
    precisions=st.dictionaries(st.text(min_size=1), PRECISIONS, max_size=6),
    architecture=st.dictionaries(st.text(), st.integers() | st.text(), max_size=3),
)


@settings(max_examples=40, deadline=None)
@given(POLICIES)
def test_a_policy_survives_json_and_pickle(policy: Policy) -> None:
    text = json.dumps(policy.to_json())
    assert Policy.from_json(json.loads(text)) == policy
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert list(Policy.from_json(json.loads(text)).precisions) == list(policy.precisions)


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(ConfigError, match="'bits'"):
        Policy.from_json({"precisions": {}, "bits": 4})


def test_the_architecture_may_be_left_out() -> None:
    policy = Policy.from_json({"precisions": {"conv1": "4/8"}})
    assert policy["conv1"] == Precision(weight_bits=4, act_bits=8)
    assert policy.architecture == {}


def test_a_bad_precision_is_refused() -> None:
    with pytest.raises(ConfigError, match="'four'"):
        Policy.from_json({"precisions": {"conv1": "four"}})


def test_pinned_sites_keep_their_precision() -> None:
    wide, low = Precision(weight_bits=8, act_bits=8), Precision(weight_bits=2, act_bits=2)
    geometry = Geometry(op="linear", in_channels=4, out_channels=4)
    sites = [Site(name="first", geometry=geometry, pinned=wide), Site(name="b", geometry=geometry)]
    assert dict(Policy.uniform(sites, low).precisions) == {"first": wide, "b": low}


def test_a_policy_does_not_change_with_the_dictionary_it_was_made_of() -> None:
    given = {"a": Precision(weight_bits=4, act_bits=4)}
    policy = Policy(precisions=given)
    given.clear()
    assert "a" in policy.precisions
    with pytest.raises(TypeError):
        policy.precisions["a"] = Precision(weight_bits=1, act_bits=1)  # type: ignore[index]
