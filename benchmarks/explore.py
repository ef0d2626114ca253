"""How long the page of pixelvae-explore lets one wait, in Chromium: from the command, and from a slider, to a picture.

    python benchmarks/explore.py                                       # the models that come with the package
    python benchmarks/explore.py --models=digits/gated_pixel_vae --moves=50

Each model is served by the command in a process of its own. "first picture" is from its start until samples are on the
screen. Then the first slider of the latents is moved, again as soon as the picture has changed: milliseconds from the
slider's event to the changed picture in the page, as the browser measures them.
"""

import argparse
import shutil
import subprocess
import sys
import time

import numpy as np
from playwright.sync_api import sync_playwright

# Moves the slider to and fro, each time when the picture of the move before has come.
MOVE = """
(slider, moves) => new Promise((done) => {
  const taken = [], picture = () => document.querySelector("#moved img").src;
  const move = () => {
    if (taken.length === moves) return done(taken);
    const before = picture(), start = performance.now();
    slider.value = taken.length % 2 ? 2.5 + taken.length / 100 : -2.5 - taken.length / 100;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    const look = () => {
      if (picture() === before) return requestAnimationFrame(look);
      taken.push(performance.now() - start);
      setTimeout(move, 50);
    };
    look();
  };
  move();
})
"""


def measure(name: str, moves: int, chromium: str) -> tuple[float, list[float]]:
    """Seconds to the first picture, and milliseconds of each move."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "pixelvae_tf.export.explore_main", "--no_browser", f"--pretrained={name}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            address = process.stdout.readline().split()[-1]
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                page = browser.new_page()
                page.goto(address)
                page.locator(".beside img").first.wait_for(timeout=120_000)
                first = time.perf_counter() - start
                page.get_by_role("tab", name="Latents").click()
                page.locator("#moved img").wait_for(timeout=120_000)
                page.locator("#status .message").wait_for(state="detached", timeout=120_000)  # everything is traced
                page.wait_for_timeout(2000)
                return first, page.locator(".sliders input[type=range]").first.evaluate(MOVE, moves)
        finally:
            process.terminate()


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--models",
        default="digits/gated_pixel_vae,binarized_mnist/gated_pixel_vae_no_upsampling",
        help="with commas between them",
    )
    parser.add_argument("--moves", type=int, default=100)
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="its path")
    arguments = parser.parse_args()
    print("model                                           first picture s   median ms   p95 ms")
    for name in arguments.models.split(","):
        first, taken = measure(name, arguments.moves, arguments.chromium)
        print(f"{name:<47} {first:16.1f} {np.median(taken):11.0f} {np.quantile(taken, 0.95):8.0f}", flush=True)


if __name__ == "__main__":
    main()
