"""Many runs: grid, plan, stages, launchers, estimates, what is shown of them."""
