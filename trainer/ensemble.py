"""How do several trials train as one program? Their weights lie in one stack, and one network answers all of them.

What a small network costs is the launch of its kernels, and a stack launches each once for all. What comes before the
network and after it (times, noise, weights of the loss, clip, optimizer, averages) is each trial's own, so that its
arms and seeds may differ in all of that. A trial's numbers are those that it has alone but for the order in which sums
are taken: in float32 some 1e-6 of a step.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from trainer.footprint import too_large
from trainer.inputs import beside, with_planes
from trainer.memory import ran_out, release, told
from trainer.replayed import Replayed, fits

if TYPE_CHECKING:
    from trainer.data import Drawn
    from trainer.step import Question, Step
    from trainer.training import Training


def alike(training: Training) -> Hashable:
    """What trainings that share a program have in common: the network, what it is shown, and how it is computed."""
    network, train, passes = training.learner.network, training.trial.train, training.passes
    if training.update.has_dropout or training.world.size > 1:
        return object()  # as nobody else
    tensors = (*network.named_parameters(), *network.named_buffers())
    return (
        training.trial.model.model_dump_json(),
        tuple((name, one.shape, one.dtype, one.requires_grad) for name, one in tensors),
        tuple(one.model_dump_json() for one in training.trial.inputs),
        (training.source.codec.shape, training.source.device),
        (passes.share, passes.size, train.precision, train.compile),
        fits(training.update),  # one that no graph can take would take it from the others
    )


class Ensemble:
    """Trainings that take their steps together: alike, and none with a `refusal`.

    Where their memory runs out, each half of them has a program of its own from then on.
    """

    def __init__(self, trainings: Sequence[Training]) -> None:
        self.trainings = tuple(trainings)
        self._programs: list[_Program | Training] = [_Program(self.trainings)]

    def step(self) -> None:
        """One batch of each, as `Training.attempt`: what one raises is kept by it, and the others step."""
        drawn: dict[Training, Drawn] = {}
        for training in self.trainings:
            with training.keeping():
                drawn[training] = training.draw()
        is_whole = len(drawn) == len(self.trainings)
        left: list[_Program | Training] = [*self._programs] if is_whole else [*drawn]
        while left:
            program = left.pop(0)
            if not isinstance(program, _Program):
                with program.keeping():
                    program.take(drawn[program])
                continue
            try:
                found = program.take([drawn[one] for one in program.trainings])
            except Exception as error:
                # whose it is, if it is one member's, shows where each steps alone
                left = [*(self._halved(program) if ran_out(error) else program.trainings), *left]
                continue
            for training, loss in zip(program.trainings, found, strict=True):
                with training.keeping():
                    if isinstance(loss, Exception):
                        raise loss
                    training.moved(loss)

    def dissolve(self) -> None:
        """Give all of them weights of their own again."""
        for program in self._programs:
            if isinstance(program, _Program):
                program.dissolve()
        self._programs = list(self.trainings)

    def _halved(self, program: _Program) -> list[_Program | Training]:
        members, half = program.trainings, len(program.trainings) // 2
        place = self._programs.index(program)
        program.dissolve()
        gc.collect()
        release(members[0].source.device)
        halves = [
            one[0] if len(one) == 1 else _Program(one) for one in (members[:half], members[half:])
        ]
        self._programs[place : place + 1] = halves
        return halves


class _Program:
    """The step of several trainings as one."""

    def __init__(self, trainings: Sequence[Training]) -> None:
        self.trainings = tuple(trainings)
        self.members = tuple(one.update for one in trainings)
        self._networks = [one.learner.network for one in self.members]
        self._skeleton = copy.deepcopy(self._networks[0]).to("meta")
        held = _by_name(dict(one.named_parameters()) for one in self._networks)
        self._parameters = {name: _stacked(ones) for name, ones in held}
        self._held: list[list[nn.Parameter]] = [ones for _, ones in held]
        """The members' own, which lie in the stacks."""
        self._buffers = {
            name: torch.stack(ones)
            for name, ones in _by_name(dict(one.named_buffers()) for one in self._networks)
        }
        self._network: Callable[..., Tensor] = vmap(self._one, randomness="error")
        if self.members[0].trial.train.compile:
            self._network = torch.compile(self._network, dynamic=False)
        self._replayed = Replayed(self)
        # A member's own graph knows where its weights lay; its evaluation may need the room of this one
        for one in trainings:
            one.make_room()
            one.shared_room = self._replayed.release

    def take(self, drawn: Sequence[Drawn]) -> Sequence[Tensor | Exception]:
        """Move the weights by a batch of each; their mean losses [], or what a member's own move raised.

        Whatever this raises, nothing has moved.
        """
        losses = self._replayed.take(drawn, [one.first for one in self.trainings])
        if losses is not None:
            return losses
        try:
            losses = self.gradients(drawn)
        except Exception:
            self.forget()
            raise
        return [error or loss for error, loss in zip(self._moves(), losses, strict=True)]

    def gradients(self, drawn: Sequence[Drawn]) -> list[Tensor]:
        """Those of a batch of each, in passes; their mean losses []."""
        totals: list[Tensor] = []
        for start, count in self.members[0].passes:
            part = slice(start, start + count)
            with self.members[0].scaled.autocast():
                asked = [m.question(d[part]) for m, d in zip(self.members, drawn, strict=True)]
                answers = self._answers(asked)
                each = zip(self.members, asked, answers, strict=True)
                losses = [member.loss(question, answer) for member, question, answer in each]
            torch.autograd.backward(losses)
            found = [loss.detach() for loss in losses]
            totals = [a + b for a, b in zip(totals, found, strict=True)] if totals else found
        return totals

    def move(self) -> None:
        """Each by its own clip and optimizer."""
        for error in self._moves():
            if error is not None:
                raise error

    def _moves(self) -> list[Exception | None]:
        for stack, parameters in zip(self._parameters.values(), self._held, strict=True):
            if stack.grad is not None:
                for parameter, gradient in zip(parameters, stack.grad.unbind(0), strict=True):
                    parameter.grad = gradient
        self._forget_stacks()
        return [_raised(one) for one in self.members]

    def forget(self) -> None:
        """What was computed of batches that moved nothing."""
        self._forget_stacks()
        for member in self.members:
            member.forget()

    def dissolve(self) -> None:
        """Each has weights of its own again; the program takes no step any more, and holds nothing."""
        for network in self._networks:
            for parameter in network.parameters():
                parameter.data = parameter.data.clone()
        for one in self.trainings:
            one.make_room()
            one.shared_room = None
        self._parameters, self._held, self._buffers = {}, [], {}
        del self._network, self._replayed

    def _forget_stacks(self) -> None:
        for stack in self._parameters.values():
            stack.grad = None

    def _answers(self, asked: Sequence[Question]) -> tuple[Tensor, ...]:
        """Of the network [B, C', ...], of each."""
        x = torch.stack([with_planes(one.asked.x, one.conditions) for one in asked])
        condition = torch.stack([one.asked.condition for one in asked])
        told = {
            name: torch.stack(ones)
            for name, ones in _by_name(beside(one.conditions) for one in asked)
        }
        with sdpa_kernel(SDPBackend.MATH):  # the others are computed one after the other
            return self._network(self._parameters, self._buffers, x, condition, told).unbind(0)

    def _one(
        self,
        parameters: dict[str, Tensor],
        buffers: dict[str, Tensor],
        x: Tensor,
        condition: Tensor,
        told: dict[str, Tensor],
    ) -> Any:
        return functional_call(self._skeleton, (parameters, buffers), (x, condition), told)


def _raised(member: Step) -> Exception | None:
    """What its move raises; out of memory then is its own, for nothing is left to be halved."""
    try:
        with told(lambda: too_large(member.trial, member.source)):
            member.move()
    except Exception as error:
        return error
    return None


def _by_name(dicts: Any) -> list[tuple[str, list[Any]]]:
    """[(name, [value of each])] of dicts with equal keys."""
    every = list(dicts)
    return [(name, [one[name] for one in every]) for name in every[0]]


def _stacked(ones: list[nn.Parameter]) -> Tensor:
    """A leaf [K, ...] in which these lie from now on, each with the strides that it had, as its moments have them."""
    first = ones[0].detach()
    stack = first.new_empty_strided((len(ones), *first.shape), (first.numel(), *first.stride()))
    for one, place in zip(ones, stack.unbind(0), strict=True):
        place.copy_(one.detach())
        one.data = place
        one.grad = None
    return stack.requires_grad_(ones[0].requires_grad)
