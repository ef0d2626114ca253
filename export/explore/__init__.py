"""The page of pixelvae-explore: a file a tab, page.py around them, explored_model.py for what they ask the model."""
