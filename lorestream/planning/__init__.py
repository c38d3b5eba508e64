"""What a workload needs: `lorestream plan`. A model of costs, fitted to measurements.

- costs.py: what one event, one search and one memory cost, each with its source in costs.json
- partitions.py: how unevenly agents spread over partitions
- sizing.py: from a workload and the costs to processes, cores, memory and disk, and what gives out first
"""
