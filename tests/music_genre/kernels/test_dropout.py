"""Fast dropout drops the share that it is told to, and follows torch's seed."""

import pytest
import torch
from torch import nn

from music_genre.kernels.dropout import use_fast_dropout


def fast(p: float) -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(p))
    use_fast_dropout(model)
    return model[1]


@pytest.mark.parametrize("p", [0.002, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_share_is_dropped_and_the_mean_is_kept(p, dtype):
    torch.manual_seed(0)
    ones = torch.ones(100, 10_001, dtype=dtype)
    result = fast(p)(ones)
    assert result.dtype == dtype
    kept = result[result != 0]
    assert len(kept) / ones.numel() == pytest.approx(1 - p, abs=0.002)
    assert float(kept[0]) == pytest.approx(1 / (1 - p), rel=0.005) and kept.unique().numel() == 1


def test_elements_are_dropped_independently():
    torch.manual_seed(0)
    dropped = fast(0.1)(torch.ones(1000, 1000)) == 0
    neighbours = torch.stack([dropped.flatten().roll(k) for k in range(5)]).float()
    assert (torch.corrcoef(neighbours) - torch.eye(5)).abs().max() < 0.005


def test_gradients_pass_where_values_do():
    hidden = torch.ones(50, 50, requires_grad=True)
    result = fast(0.3)(hidden)
    result.sum().backward()
    torch.testing.assert_close(hidden.grad, result)


def test_the_seed_decides_and_evaluation_drops_nothing():
    dropout, ones = fast(0.5), torch.ones(100)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(dropout(ones))
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])
    assert dropout.eval()(ones) is ones


def test_a_dropout_of_zero_and_other_kinds_stay_unchanged():
    model = nn.Sequential(nn.Dropout(0.0), nn.Dropout1d(0.5))
    use_fast_dropout(model)
    assert all("forward" not in vars(module) for module in model)
