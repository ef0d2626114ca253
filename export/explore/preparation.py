"""The first call of each signature, which loads, traces or compiles, made before anybody waits for it."""

import math
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np

from pixelvae_tf.export.explore import markup, origins
from pixelvae_tf.export.explore.explored_model import ExploredModel


def steps(model: ExploredModel) -> list[tuple[str, Callable[[], object]]]:
    """The signatures in the order in which the page wants them, and a small call of each."""
    facts = model.facts
    drawn = origins.Drawn((0,) * (facts.num_levels + 1))
    redrawn = origins.Drawn((*drawn.seeds[:-1], 1))
    images = {"images": np.zeros((1, *facts.image_shape), np.uint8)}
    mask = {"mask": np.ones((1, *facts.image_shape[:2], 1), np.uint8)}
    rounds = {} if facts.rounds is None else {"rounds": np.zeros(1, np.int64)}
    noise = model.noise([0], 1.0, None)
    measured = {key: values for key, values in noise.items() if key != "temperature"}
    calls = [
        ("sample", lambda: model.image(drawn)),
        ("encode", model.units),
        ("decode", lambda: model.decode(model.image(drawn).z1, [0], 1.0, None)),
        ("log_prob", lambda: model.predict("log_prob", images | measured)),
        ("sample_by_level", lambda: model.image(redrawn)),
        (facts.completion, lambda: model.predict(facts.completion, images | mask | rounds | noise)),
    ]
    latent = ("encode", "decode", "sample_by_level")
    return [(name, call) for name, call in calls if facts.num_levels or name not in latent]


class Preparation:
    """Makes those calls in a thread, and says in the page how far it is.

    Args:
      model: what is called.
      before: called first.
    """

    def __init__(self, model: ExploredModel, before: Callable[[], None] = lambda: None):
        self._before, self._steps = before, steps(model)
        self._done, self._failed, self._thread = 0, "", threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begins, or begins anew where it failed: a server may be there again."""
        if self._failed and not self._thread.is_alive():
            self._failed, self._thread = "", threading.Thread(target=self._run, daemon=True)
        if self._thread.ident is None:
            self._thread.start()

    def _run(self) -> None:
        try:
            self._before()
            for index in range(self._done, len(self._steps)):
                self._steps[index][1]()
                self._done = index + 1
        except Exception as error:  # said in the page, whatever it is
            self._failed = str(error) or repr(error)

    def messages(self) -> Iterator[str]:
        """What the page says of it while it goes on, as HTML; nothing at its end."""
        self.start()
        said = None
        while self._thread.is_alive():
            if said != self._done:
                said = self._done
                name, whole = self._steps[min(said, len(self._steps) - 1)][0], len(self._steps)
                share = math.floor(100 * said / whole)
                yield markup.message(
                    f"Preparing {name}, {said + 1} of {whole} ({share}%): the first call takes seconds."
                )
            time.sleep(0.05)
        yield markup.message(self._failed, "alert") if self._failed else ""
