"""SavedModels, and the commands that use a trained model.

pixelvae-export                      main.py, by exporter.py, signatures.py (what is served) and check.py
pixelvae-model, pixelvae-sample      model_main.py, by caller.py, local.py and client.py (a server)
pixelvae-score                       score_main.py, by scorer.py and scoring.py
pixelvae-compress, -decompress       compress_main.py, decompress_main.py, by pixelvae_tf/codec/
pixelvae-explore                     explore_main.py, by explore/
"""
