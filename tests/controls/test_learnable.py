import pytest
import torch

import tauten as tt

INDEX = torch.arange(4)


def test_a_gradient_step_multiplies_a_positive_value():
    control = tt.Learnable(0.1, low=0.01, high=1.0)
    optimizer = torch.optim.SGD(control.parameters(), lr=1.0)
    (control.at(INDEX).sum() / control.at(INDEX).detach().sum()).backward()
    optimizer.step()
    assert float(control.at(INDEX)[0].detach()) == pytest.approx(0.1 * 2.718281828**-1, rel=1e-5)


def test_a_bias_may_be_negative():
    control = tt.Learnable(-10.0, low=-20.0, high=0.0)
    assert float(control.at(INDEX)[0].detach()) == -10.0
    control.at(INDEX).sum().backward()
    assert float(control.parameter.grad) == 4.0


def test_step_projects_into_the_bounds_so_that_it_can_leave_them():
    control = tt.Learnable(0.1, low=0.05, high=1.0)
    with torch.no_grad():
        control.parameter.fill_(-50.0)
    assert float(control.at(INDEX)[0].detach()) == pytest.approx(0.05)
    control.step()
    control.at(INDEX).sum().backward()
    assert float(control.parameter.grad) > 0


def test_value_survives_a_state_dict():
    control = tt.Learnable(0.1, low=0.05, high=1.0)
    with torch.no_grad():
        control.parameter.sub_(0.3)
    fresh = tt.Learnable(0.5, low=0.05, high=1.0)
    fresh.load_state_dict(control.state_dict())
    assert torch.equal(fresh.at(INDEX), control.at(INDEX))


@pytest.mark.parametrize("bounds", [(0.1, 0.2, 1.0), (0.1, 0.0, 0.05), (0.1, 0.1, 0.1)])
def test_init_outside_the_bounds_is_refused(bounds):
    init, low, high = bounds
    with pytest.raises(ValueError, match="low <= init <= high"):
        tt.Learnable(init, low, high)
