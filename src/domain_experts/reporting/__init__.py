"""Tables, figures and the report, from result files alone."""
