"""The search space: which precisions every site may take."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from mpqdeploy.core import ConfigError, Precision, Site
from mpqdeploy.core.suggest import did_you_mean


def search_space(
    sites: Sequence[Site],
    precisions: Sequence[Precision],
    exclude: Mapping[str, Collection[Precision]] | None = None,
) -> dict[str, tuple[Precision, ...]]:
    """Candidates per site: its pin, or `precisions`, without those that `exclude` names for it.

    A precision that is excluded and no candidate anyway is no error. Raises `ConfigError` for a
    site that is not there and for one without anything left.
    """
    names = [site.name for site in sites]
    excluded = exclude or {}
    for name in excluded:
        if name not in names:
            raise ConfigError(
                f"search.exclude: there is no site {name!r}.",
                hint=f"{did_you_mean(name, names)}The sites: {', '.join(names)}.",
            )
    space = {}
    for site in sites:
        choices = (site.pinned,) if site.pinned else tuple(precisions)
        space[site.name] = tuple(p for p in choices if p not in excluded.get(site.name, ()))
        if not space[site.name]:
            raise ConfigError(
                f"search.exclude: no precision is left for site {site.name!r}"
                f"{', which is pinned' if site.pinned else ''}: {', '.join(map(str, choices))}.",
                hint="Exclude less, or change model.pins." if site.pinned else "Exclude less.",
            )
    return space
