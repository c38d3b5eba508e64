-- Measures the mod's cost: durations of one kind of work, in microseconds.

local Profile = {}
Profile.__index = Profile

local KEPT = 4096

-- limit_us: longer durations are counted as overruns; nil = none are.
function Profile.new(limit_us)
	return setmetatable({limit_us = limit_us or math.huge, samples = {}, count = 0, total = 0, max = 0, overruns = 0},
		Profile)
end

function Profile:add(us)
	self.samples[self.count % KEPT + 1] = us
	self.count = self.count + 1
	self.total = self.total + us
	if us > self.max then
		self.max = us
	end
	if us > self.limit_us then
		self.overruns = self.overruns + 1
	end
end

-- {count, mean_us, p50_us, p99_us, max_us, overruns}; the percentiles are over the last 4,096 samples.
function Profile:summary()
	local sorted = {}
	for i, us in ipairs(self.samples) do
		sorted[i] = us
	end
	table.sort(sorted)
	local function percentile(p)
		return sorted[math.max(1, math.ceil(p * #sorted))] or 0
	end
	return {
		count = self.count,
		mean_us = self.count > 0 and self.total / self.count or 0,
		p50_us = percentile(0.5),
		p99_us = percentile(0.99),
		max_us = self.max,
		overruns = self.overruns,
	}
end

return Profile
