"""The HS-DPO loss (arXiv:2501.18492, section 3.3)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch

__all__ = ["HSDPOLoss", "hs_dpo_loss"]


class HSDPOLoss(NamedTuple):
    """The loss of some pairs and what it is made of, one value a pair.

    Args:
        loss: to minimise; a scalar.
        preference: alpha x -log sigmoid(beta x margin).
        sft: mean negative log-likelihood of the chosen answer's tokens.
        chosen: log-ratio of policy and reference for the chosen answer.
        rejected: the same for the rejected one.
    """

    loss: torch.Tensor
    preference: torch.Tensor
    sft: torch.Tensor
    chosen: torch.Tensor
    rejected: torch.Tensor


def hs_dpo_loss(
    token_logps: torch.Tensor,
    mask: torch.Tensor,
    reference: tuple[torch.Tensor, torch.Tensor],
    alpha: torch.Tensor,
    *,
    beta: float,
    sft_weight: float,
    sft_average: Literal["sequence", "token"],
    pairs: torch.Tensor | int,
    tokens: torch.Tensor | int,
) -> HSDPOLoss:
    """The mean over a step's pairs of alpha x -log sigmoid(beta x (log-ratio chosen - log-ratio rejected)), and the SFT loss.

    A step may come in parts: each is divided by the whole step's counts, so that their sum does not depend on how it is cut.

    Args:
        token_logps: the policy's log-probability of each token, zero outside the answers; chosen answers first, then as many
            rejected ones (2 x pairs, tokens).
        mask: 1 for the tokens of the answers, in the same shape.
        reference: the reference's log-probabilities of the whole answers, chosen and rejected.
        beta: how strongly the policy may leave its reference.
        sft_weight: weight of the SFT loss on the chosen answers.
        sft_average: a mean over each answer's tokens and then over the answers, or over all tokens of the step.
    """
    answers, lengths = token_logps.sum(dim=1), mask.sum(dim=1)
    policy_chosen, policy_rejected = answers.chunk(2)
    chosen, rejected = policy_chosen - reference[0].to(answers), policy_rejected - reference[1].to(answers)
    preference = -alpha.to(answers) * torch.nn.functional.logsigmoid(beta * (chosen - rejected))
    sft = -policy_chosen / lengths.chunk(2)[0].clamp(min=1)
    loss = preference.sum() / pairs
    if sft_weight:
        loss = loss + sft_weight * (sft.sum() / pairs if sft_average == "sequence" else -policy_chosen.sum() / tokens)
    return HSDPOLoss(loss, preference.detach(), sft.detach(), chosen.detach(), rejected.detach())
