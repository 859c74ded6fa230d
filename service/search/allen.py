"""Allen's relations between two moments, in SQL.

Sampled times may be off by a sampling interval, so every comparison for equality, and every one that `before` and
`during` make, has this tolerance.
"""

from __future__ import annotations

from typing import Final

TOLERANCE: Final = "(l.interval + 0.001)"
"""One sampling interval, and a millisecond for frames that are not quite evenly spaced."""
_BEGINS_AND_ENDS_FIRST: Final = '{a}.start < {b}.start AND {a}."end" < {b}."end"'
_RELATIONS: Final = {
    "before": f'{{a}}."end" <= {{b}}.start + {TOLERANCE} AND {_BEGINS_AND_ENDS_FIRST}',
    "meets": f'abs({{a}}."end" - {{b}}.start) <= {TOLERANCE} AND {_BEGINS_AND_ENDS_FIRST}',
    "overlaps": f'{_BEGINS_AND_ENDS_FIRST} AND {{b}}.start < {{a}}."end"',
    "starts": f'abs({{a}}.start - {{b}}.start) <= {TOLERANCE} AND {{a}}."end" < {{b}}."end"',
    "during": f'{{a}}.start + {TOLERANCE} >= {{b}}.start AND {{a}}."end" <= {{b}}."end" + {TOLERANCE}',
    "finishes": f'abs({{a}}."end" - {{b}}."end") <= {TOLERANCE} AND {{a}}.start > {{b}}.start',
    "equals": f'abs({{a}}.start - {{b}}.start) <= {TOLERANCE} AND abs({{a}}."end" - {{b}}."end") <= {TOLERANCE}',
}
_INVERSES: Final = {
    "after": "before",
    "met_by": "meets",
    "overlapped_by": "overlaps",
    "started_by": "starts",
    "contains": "during",
    "finished_by": "finishes",
}
SHARES_TIME: Final = 'greatest(l.start, r.start) < least(l."end", r."end")'
"""Moments `l` and `r` have a time in common."""


def condition_of(relation: str) -> str:
    """Returns the condition that moment `l` stands in a relation to moment `r`."""
    if relation in _INVERSES:
        return _RELATIONS[_INVERSES[relation]].format(a="r", b="l")
    return _RELATIONS[relation].format(a="l", b="r")
