"""Which entries of a long table does a respacing rule keep? improved-diffusion's rules, as index lists."""

_LONGEST_COUNT = 9
_TRAILING = "trailing"


def kept(total: int, rule: str) -> list[int]:
    """Indices, rising, of the entries of a table of `total` levels that `rule` keeps.

    "ddimN": N entries at the smallest integer stride from 0. "a,b,c": the table is cut into equal sections
    of which a, b and c entries are kept, evenly and with both ends of each, or none for 0; "N" is one section.
    "trailingN": N entries at an even stride that end at the last one, as diffusers' spacing of that name.
    Source: improved-diffusion, respace.py. Raises ValueError with the way out.
    """
    if rule.startswith(_TRAILING):
        count = _count(rule.removeprefix(_TRAILING), rule)
        if count < 1 or total % count:
            raise ValueError(
                f"rule {rule!r}: {total} levels are no multiple of that: use one of their divisors"
            )
        return [total * j // count - 1 for j in range(1, count + 1)]
    if rule.startswith("ddim"):
        return _strided(total, _count(rule[4:], rule))
    counts = [_count(part, rule) for part in rule.split(",")]
    if not any(counts):
        raise ValueError(f"rule {rule!r} keeps no level: give a section a number above zero")
    size, extra = divmod(total, len(counts))
    steps: list[int] = []
    start = 0
    for i, count in enumerate(counts):
        length = size + (1 if i < extra else 0)
        if length < count:
            raise ValueError(
                f"rule {rule!r} asks for {count} of a section of {length} levels: use {length} or fewer"
            )
        stride = (length - 1) / (count - 1) if count > 1 else 1.0
        place = 0.0
        for _ in range(count):
            steps.append(start + round(place))
            place += stride
        start += length
    return steps


def _strided(total: int, count: int) -> list[int]:
    for stride in range(1, total):
        steps = range(0, total, stride)
        if len(steps) == count:
            return list(steps)
    near = sorted({len(range(0, total, i)) for i in range(1, total)}, key=lambda n: abs(n - count))
    raise ValueError(
        f"no integer stride keeps {count} of {total} levels: use ddim{near[0]}"
        + (f" or ddim{near[1]}" if len(near) > 1 else "")
    )


def _count(text: str, rule: str) -> int:
    if not (text.isascii() and text.strip().isdecimal()) or len(text) > _LONGEST_COUNT:
        raise ValueError(
            f'rule {rule!r} is not "N", "a,b,c", "ddimN" or "trailingN" with whole numbers'
        )
    return int(text)
