-- How much a memory counts by its age: 1 if it is new, half after each half_life_s (seconds). Pure.
return function(memory, now_s, half_life_s)
	return 0.5 ^ (math.max(0, now_s - memory.timestamp) / half_life_s)
end
