"""The engines and services of the distributed shape as child processes of one machine, without Docker."""
