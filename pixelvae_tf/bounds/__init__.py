"""Bounds on log p(x), by named parts, and what the latents carry.

    log p(x) >= E_q[log p(x | z)] - sum_l KL(q(z_l | x) || p(z_l | z_{l+1}))          the ELBO
    log p(x) >= E[log 1/K sum_k p(x, z_k) / q(z_k | x)], z_k ~ q                      K samples

One sign everywhere: what is called `log_prob` is a log-likelihood, and larger is better; what ends in `_nats` is a cost
per image, and smaller is better. Reconstruction (distortion) and KL (rate) are kept apart. In the ELBO the KL is
analytic per dimension, given the sampled z_{l+1} and, where p(z_l | z_{l+1}) is autoregressive, given the sampled z_l
in its context: one sample's estimate, the Gaussian part integrated out. It belongs to the ELBO alone; in the
importance-weighted bound every term is taken at the sampled z_k (Burda et al. 2016, equation 8): with the analytic KL
inside the logarithm it would be no bound.

Legend: B batch, L levels, K importance samples.
"""

from pixelvae_tf.bounds.diagnosis import Usage, active_units, usage
from pixelvae_tf.bounds.importance import importance_weighted_nats
from pixelvae_tf.bounds.objective import Objective
from pixelvae_tf.bounds.terms import Elbo, LatentVariableModel, NllMap, elbo, nll_map

__all__ = [
    "Elbo",
    "LatentVariableModel",
    "NllMap",
    "Objective",
    "Usage",
    "active_units",
    "elbo",
    "importance_weighted_nats",
    "nll_map",
    "usage",
]
