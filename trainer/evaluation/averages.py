"""What are the numbers of a further average called? Rows of their own, under the same protocol."""

from dataclasses import replace

from trainer.evaluation.measurement import Measurement


def ending(name: str) -> str:
    """`eval/fid` of the average NAME is `eval/fid-ema-NAME`."""
    return f"-ema-{name}"


def of_average(measured: Measurement, name: str) -> Measurement:
    """The same numbers under the average's names."""
    end = ending(name)
    return replace(
        measured,
        metrics={each + end: value for each, value in measured.metrics.items()},
        draws={each + end: values for each, values in measured.draws.items()},
        errors={each + end: value for each, value in measured.errors.items()},
        terms={each + end: parts for each, parts in measured.terms.items()},
        protocol={each + end: value for each, value in measured.protocol.items()},
    )
