"""Pools over a year of recorded grids, sized in different ways, in virtual time.

Jobs come as in two recorded workloads (jobs.py). The simulated router hands each to FAST or ECO
when its policy says so: `threshold`, or `run_now`, which leaves all care for carbon to the size of
the pools. Then each pool runs what it was handed, sized in one of several ways (ways.py): fixed; by
backlog; by backlog under a ceiling that depends on intensity; and ours (scaler/deciding.py).
A worker has two slots and is there two minutes after it is wanted; pools are looked at every two
minutes. The shares of the largest size in the three bands are those of the carbon-aware KEDA
operator's example. CO2 counts 100 W for each worker and 100 W for each CPU of each job.
"""
