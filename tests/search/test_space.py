from __future__ import annotations

import pytest

from mpqdeploy.core import ConfigError, parse_precisions
from mpqdeploy.search.space import search_space
from tests.search.spaces import make_sites

SITES = make_sites(4)
CHOICES = parse_precisions(("8/8", "4/4", "1/1"))
WIDE, MIDDLE, NARROW = CHOICES


def test_pinned_sites_have_their_pin_and_the_others_all() -> None:
    space = search_space(SITES, CHOICES)
    assert list(space) == [site.name for site in SITES]
    assert space["layer0.conv"] == space["layer3.conv"] == (WIDE,)
    assert space["layer1.conv"] == space["layer2.conv"] == CHOICES


def test_a_site_loses_what_is_excluded_for_it_and_no_other_does() -> None:
    odd = parse_precisions(("3/3",))
    space = search_space(SITES, CHOICES, {"layer1.conv": [NARROW, *odd]})
    assert space["layer1.conv"] == (WIDE, MIDDLE)
    assert space["layer2.conv"] == CHOICES


def test_an_unknown_site_is_named_with_a_guess() -> None:
    with pytest.raises(ConfigError, match=r"no site 'layer1.con'.*Did you mean layer1.conv\?"):
        search_space(SITES, CHOICES, {"layer1.con": [NARROW]})
    with pytest.raises(ConfigError) as caught:
        search_space(SITES, CHOICES, {"zzz": [NARROW]})
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize(("site", "words"), [("layer2.conv", "is left"), ("layer0.conv", "pinned")])
def test_a_site_without_anything_left_is_named(site: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        search_space(SITES, CHOICES, {site: CHOICES})
    assert site in str(caught.value)
