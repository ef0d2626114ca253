"""Training: commands, and what a program calls to train as they do.

pixelvae-train      main.py, by trainer.py (prepares a run), loop.py (runs it) and steps.py (one step)
pixelvae-evaluate   evaluate_main.py, by evaluation.py and, with --output, evaluation_files.py
pixelvae-prepare    prepare_main.py, by pixelvae_tf/data/prepare.py
pixelvae-launch     launch_main.py, by launch.py: several processes
"""
