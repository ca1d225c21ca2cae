"""What several tests share: the error budget, calls of the operators, small nets, and plain forms of both networks."""
