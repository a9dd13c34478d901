"""The trainer: network, optimizer and progress of a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from resnetkit.bundle.bundle import Bundle
from resnetkit.data.datasets.dataset import Part
from resnetkit.errors import InputError
from resnetkit.nn.resnet import ResNet
from resnetkit.training.checkpoint import (
    State,
    arrays_of,
    check_network,
    differences,
    load_state,
    put_optimizer,
    save_state,
)
from resnetkit.training.data.data_loader import Batch, DataLoader, LoaderOptions
from resnetkit.training.data.rng import mixed
from resnetkit.training.data.wait_timer import Waiting
from resnetkit.training.data_parallel import DataParallel
from resnetkit.training.epoch_bundle import bundle_of
from resnetkit.training.epoch_log import EpochLog, epoch_log_of, is_best, is_finished, write_log
from resnetkit.training.fsdp import whole_module
from resnetkit.training.recipe.augmentation import Augment
from resnetkit.training.recipe.recipe import Recipe
from resnetkit.training.run_context import RunContext
from resnetkit.training.run_folder import BEST, LAST, NAN
from resnetkit.training.skipped_batches import MOST_SKIPPED, record_batch
from resnetkit.training.split_data import DataSplits
from resnetkit.training.step.compile import compiled
from resnetkit.training.step.loss import criterion_of, mixed_images, weigher_of
from resnetkit.training.step.model_setup import (
    FlipTTA,
    Place,
    averaged,
    freeze,
    module_of,
    skip_blocks,
)
from resnetkit.training.step.optimization_step import (
    DivergedError,
    NotFiniteError,
    Score,
    StepOptions,
    cuda_of,
    measure,
    placed,
    train_step,
)
from resnetkit.training.step.optimizer import optimizer_of, schedule_of, set_rate


class Trainer:
    """Trains by a recipe, and saves checkpoints.

    ``rows`` are the finished epochs, ``batch`` the number of finished batches of the next one. If
    the folder has a state, training resumes there. ``schedule`` replaces the recipe's.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        splits: DataSplits,
        context: RunContext,
        *,
        pretrained: Bundle | None = None,
        schedule: Callable[[int], float] | None = None,
    ) -> None:
        self.recipe, self.folder, self.splits, self.pretrained = recipe, folder, splits, pretrained
        self.run_options, self.callback = context.run_options, context.callback
        self.stop, self.processes = context.stop, context.processes
        self._news: list[tuple[str, str]] = []
        self.module = module_of(recipe, pretrained)
        self.frozen = freeze(self.module, recipe.model.freeze)
        place = Place()
        if recipe.model.drop_path:
            skip_blocks(self.module, recipe.model.drop_path, place)
        self.average = (
            averaged(self.module, recipe.model.ema_decay) if recipe.model.ema_decay else None
        )
        self.criterion = criterion_of(recipe, splits.class_counts())
        self.train = self._feed("train", recipe.augment, recipe.size_in)
        self.validation = self._feed("validation") if splits.parts["validation"] else None
        self.schedule = schedule or schedule_of(recipe, len(self.train))
        self.smallest_batch = recipe.smallest_batch
        self.rows: list[EpochLog] = []
        self.batch, self.skipped = 0, 0
        self.score, self.seconds, self.waited = Score(), 0.0, 0.0
        self._kept = time.monotonic()
        state = self.processes.shared(lambda: load_state(folder, self.callback.warn))
        if state is not None:
            self._restore(state)
        self.together = DataParallel(
            self.processes,
            self.module,
            self.average,
            sync_bn=recipe.model.sync_bn,
            fsdp=self.run_options.fsdp,
            weigh=weigher_of(recipe, splits.class_counts()),
            place=place,
        )
        self.optimizer = optimizer_of(self.module, recipe)
        if state is not None:
            put_optimizer(self.module, self.optimizer, state.part("optimizer"))
        self.forward = compiled(self.together.module) if recipe.runtime.compile else None

    @property
    def kept(self) -> ResNet:
        """The evaluated and saved module: the average, if there is one."""
        if self.average is None or not self.average.n_averaged:
            return self.module
        return cast(ResNet, self.average.module)

    def _feed(
        self,
        part: Part,
        augment: Augment | None = None,
        size_in: Callable[[int], int] | None = None,
    ) -> DataLoader:
        return DataLoader(
            self.splits.parts[part],
            self.recipe.preprocess,
            LoaderOptions(
                batch_size=self.recipe.batch_size,
                augment=augment,
                seed=self.recipe.runtime.seed,
                repeats=1 if augment is None else self.recipe.images.aug_repeats,
                size_in=size_in,
                memory=round(self.run_options.memory * (1 << 30)) // self.processes.local,
                device=self.recipe.runtime.device,
                machines=max(1, self.splits.record.machines),
            ),
            unreadable=self._unreadable,
            share=self.processes.share,
        )

    def _unreadable(self, name: str, reason: str) -> None:
        """Record an image that has become unreadable, or was not tried before."""
        self._news.append((name, reason))
        if self.processes.alone:
            self._share_news([self._news])

    def _share_news(self, gathered: list[list[tuple[str, str]]]) -> None:
        """Record unreadable images of all processes."""
        self._news, bad = [], self.splits.bad
        for name, reason in (one for news in gathered for one in news):
            if bad.add(name, reason):
                if self.processes.leads:
                    bad.save(self.folder)
                self.callback.warn(f"skipped {name}: {reason}")
                self.callback.unreadable(len(bad.problems))
                bad.check()

    def run(self) -> list[EpochLog]:
        """Train the remaining epochs, or until the recipe's patience is exhausted.

        Raises ``DivergedError`` if the loss is not finite, and ``KeyboardInterrupt`` after a
        signal, once everything is saved.
        """
        counts, done = self.splits.counts(), self.score.images
        self.callback.start(self.recipe, counts, list(self.rows), done)
        self.callback.unreadable(len(self.splits.bad.problems))
        while not is_finished(self.rows, self.recipe.epochs, self.recipe.schedule.patience):
            with self.stop.patiently():
                self._epoch()
        return self.rows

    def _epoch(self) -> None:
        """Train the rest of an epoch; returns early after a signal."""
        number = len(self.rows)
        began, before, waited = time.perf_counter(), self.seconds, self.waited
        batches = Waiting(self.train.batches(number, first=self.batch))
        for batch in batches:
            try:
                count = self.step(number, batch)
            except NotFiniteError as error:
                count = self._skip(number, batch, str(error))
            self.seconds = before + time.perf_counter() - began
            self.waited = waited + batches.seconds
            due = self._agree(due=self._is_due())
            if self.score.images:
                share = self.waited / self.seconds
                self.callback.so_far(self.score.loss, self.score.accuracy, share)
            self.callback.images(count)
            if due or self.stop.asked:
                self._checkpoint()
            if self.stop.asked:
                return
        if not self.score.images:
            raise DivergedError(
                f"no batch of epoch {number + 1} could be trained on; {self._advice()}"
            )
        began = time.perf_counter()
        measured = self._measured(number)
        loss, accuracy = (measured.loss, measured.accuracy) if measured else (None, None)
        images = measured.images if measured else 0
        row = EpochLog(
            epoch=number + 1,
            lr=self.optimizer.param_groups[0]["lr"],
            loss=self.score.loss,
            accuracy=self.score.accuracy,
            validation_loss=loss,
            validation_accuracy=accuracy,
            seconds=self.seconds + time.perf_counter() - began,
            rate=self.score.images / self.seconds,
            best=is_best(self.rows, accuracy, images),
            waited=self.waited / self.seconds,
            validation_images=images,
        )
        self._finish_epoch(row)
        self.callback.epoch(row)

    def _measured(self, epoch: int) -> Score | None:
        """The score on the validation images, if there are any."""
        if self.validation is None:
            return None
        try:
            return measure(
                FlipTTA(self.kept) if self.recipe.images.flip_tta else self.kept,
                self.validation.batches(),
                device=self.recipe.runtime.device,
                between=self._listen,
                total=self.together.total,
            )
        except DivergedError as error:
            raise DivergedError(f"{error} in epoch {epoch + 1}; {self._advice()}") from None
        except KeyboardInterrupt:
            self._checkpoint()
            raise

    def step(self, epoch: int, batch: Batch) -> int:
        """Make a step; return the number of images in the whole batch.

        Raises ``NotFiniteError`` if the loss or the gradient is not finite.
        """
        batch = self.together.usable(batch)
        count = self.together.count(len(batch))
        if count < self.smallest_batch:
            # Too few readable images are left to train a norm.
            self.batch += 1
            return count
        recipe, number = self.recipe, epoch * len(self.train) + self.batch
        set_rate(self.optimizer, self.schedule(number))
        device = recipe.runtime.device
        inputs, labels = placed(batch.inputs, device), batch.labels.to(device)
        # Random numbers depend only on the step.
        with torch.random.fork_rng(cuda_of(device)):
            torch.manual_seed(mixed(recipe.runtime.seed, epoch, self.batch, 1))
            images, targets = mixed_images(
                inputs, labels, recipe, len(self.splits.classes), before=self.together.before
            )
            logits = train_step(
                self.together.module,
                images,
                targets,
                self.optimizer,
                self.criterion,
                StepOptions(
                    frozen=self.frozen,
                    clip=recipe.optimizer.clip_grad,
                    pieces=recipe.optimizer.grad_accum_steps,
                    forward=self.forward,
                    bf16=recipe.runtime.precision == "bf16",
                    backward=self.together.backward,
                ),
            )
            self.together.settle()
        self.skipped = 0
        seen = Score()
        seen.add(logits, labels)
        self.score.join(self.together.total(seen))
        if self.average is not None and number % recipe.model.ema_every == 0:
            self.average.update_parameters(self.module)
        self.batch += 1
        return count

    def _skip(self, epoch: int, batch: Batch, problem: str) -> int:
        """Skip a batch after a non-finite step, or stop; return its number of images."""
        shares = self.processes.gathered([example.name for example in batch.examples])
        names = [name for share in shares for name in share]
        said = record_batch(
            self.folder / NAN,
            f"in epoch {epoch + 1}, batch {self.batch + 1}",
            problem,
            names,
            write=self.processes.leads,
        )
        if not self.run_options.skip_nan:
            self._checkpoint()
            raise DivergedError(
                f"{said}; {self._advice()}, or skip the batch with skip_nan and "
                f"resnetkit.resume('{self.folder}')"
            )
        self.skipped += 1
        if self.skipped > MOST_SKIPPED:
            raise DivergedError(f"{said}, as in {MOST_SKIPPED} batches before it; {self._advice()}")
        self.callback.warn(f"skipped: {said}")
        self.batch += 1
        return self.together.count(len(batch))

    def _advice(self) -> str:
        rows = self.rows
        kept = f"{self.folder / LAST} is from epoch {len(rows)}" if rows else "no epoch is saved"
        return f"{kept}; train again with an lr below {self.recipe.optimizer.lr:g}"

    def _agree(self, *, due: bool = False) -> bool:
        """Share signals, bad images and waits of all processes; whether rank 0 is ``due``."""
        found = self.processes.numbers(self.stop.heard, len(self._news), due, self.waited)
        heard, news, rank_0_due, waited = zip(*found, strict=True)
        self.stop.agree(int(max(heard)))
        # The others wait for the process that waits longest.
        self.waited = max(waited)
        if any(news):
            self._share_news(self.processes.gathered(self._news))
        return bool(rank_0_due[0])

    def _listen(self) -> None:
        self._agree()
        if self.stop.asked:
            self.stop.check()

    def _is_due(self) -> bool:
        return time.monotonic() - self._kept >= 60 * self.run_options.checkpoint_minutes

    def _finish_epoch(self, row: EpochLog) -> None:
        """Write bundles and log, then the state, which determines where to resume."""
        self.rows.append(row)
        self.batch, self.score, self.seconds, self.waited = 0, Score(), 0.0, 0.0
        kept = whole_module(self.kept, keep=self.processes.leads)
        if kept is not None:
            self._keep_epoch(kept, row)
        self._checkpoint()

    def _keep_epoch(self, kept: ResNet, row: EpochLog) -> None:
        bundle = bundle_of(kept, self.recipe, row, self.splits, self.pretrained)
        try:
            if row.best:
                bundle.save(self.folder / BEST)
            bundle.save(self.folder / LAST)
            write_log(self.folder, self.rows)
        except InputError as error:
            raise self._unwritten(error) from None

    def _checkpoint(self) -> None:
        leads = self.processes.leads
        arrays = arrays_of(self.module, self.optimizer, self.average, keep=leads)
        if leads:
            self._keep_state(arrays)
        # A process that exits while rank 0 writes would stop it too.
        self.processes.wait()
        self._kept = time.monotonic()

    def _keep_state(self, arrays: Mapping[str, Tensor]) -> None:
        document = {
            "network": self.recipe.network.to_dict(),
            "batch": self.batch,
            "skipped": self.skipped,
            "score": self.score.to_dict(),
            "seconds": self.seconds,
            "waited": self.waited,
            "rows": [row.to_dict() for row in self.rows],
            "threads": torch.get_num_threads(),
            "processes": self.processes.world,
        }
        try:
            save_state(self.folder, State(arrays=arrays, document=document))
        except InputError as error:
            raise self._unwritten(error) from None

    def _unwritten(self, error: InputError) -> InputError:
        return InputError(
            f"{error}; earlier files are intact: free space and continue with "
            f"resnetkit.resume('{self.folder}')"
        )

    def _restore(self, state: State) -> None:
        document = state.document
        check_network(document, self.recipe, self.folder)
        try:
            self.module.load_state_dict(state.part("model"))
            if self.average is not None:
                self.average.load_state_dict(state.part("average"))
        except RuntimeError as error:
            raise InputError(f"the state in {self.folder} does not fit ({error})") from None
        self.rows = [epoch_log_of(row) for row in document["rows"]]
        self.batch, self.skipped = document["batch"], document["skipped"]
        self.score, self.seconds = Score.from_dict(document["score"]), document["seconds"]
        self.waited = document.get("waited", 0.0)
        for text in differences(document, self.recipe, self.processes.world):
            self.callback.warn(text)
