"""The model card as a page."""

import re

from pixelvae_tf.model_card import page


def test_no_text_breaks_a_table():
    card = {"name": "digits", "num_weights": 1, "fingerprint": "0", "versions": {"a|package": "1"}}
    rows = [line for line in page(card).splitlines() if line.startswith("|")]
    assert "a\\|package 1" in rows[-1]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {3}, "two cells each"
