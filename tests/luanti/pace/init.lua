-- Measures the Lua part of whole server steps (the first to the last globalstep) in CPU time of the server's thread, in
-- slices that alternate: "on" with the mod, "off" without it. Between them the mod works off its queue. In slices
-- without it, an empty loop may take the mod's usual time, so that the noise of the machine meets both kinds alike.

local insecure = assert(core.request_insecure_environment(), "secure.trusted_mods = pace")
local ffi = insecure.require("ffi")

ffi.cdef("typedef struct { long s; long ns; } pace_time; int clock_gettime(int clock, pace_time *time);")
-- Linux's number.
local THREAD_CPU = 3

local AGENTS = 50
local PLACES = {"the river", "the old oak", "the hill", "the second cave", "the market"}
local THINGS = {"pine", "iron", "coal", "berries", "wolves", "clay", "a stranger"}

local time = ffi.new("pace_time")
local function cpu_us()
	ffi.C.clock_gettime(THREAD_CPU, time)
	return tonumber(time.s) * 1e6 + tonumber(time.ns) / 1e3
end

local function loop(turns)
	local x = 0
	for i = 1, turns do
		x = (x * 31 + i) % 65537
	end
	return x
end

-- Turns of the loop in a microsecond of CPU time: the speed of this machine at this time.
local function speed()
	local best = math.huge
	for _ = 1, 20 do
		local began = cpu_us()
		loop(1e5)
		best = math.min(best, cpu_us() - began)
	end
	return 1e5 / best
end

-- The durations of the current measurement; nil outside of slices.
local kept
local mode = "idle"
local run, began_us
-- Of the slices with the mod.
local counts = {emits = 0, recalls = 0, answers = 0, failures = 0, reasons = {}}

local function agent(n)
	return "npc:worker-" .. n % AGENTS
end

-- The mod, or in slices without it functions that do nothing: the load itself is the same in both.
local mod
local nothing = {put = function() end, emit = function() end, get = function() end}

local function emit(n)
	local pos = {x = n * 7 % 300, y = 8, z = n % 11}
	local thing, place = THINGS[n % #THINGS + 1], PLACES[n % #PLACES + 1]
	if n % 2 == 0 then
		mod.put(agent(n), ("I found %s near %s, number %d"):format(thing, place, n),
			{resource = thing, outcome = "success", pos = pos})
	else
		mod.emit("trade", agent(n), {gave = thing, count = n % 9, pos = pos, outcome = "success"})
	end
end

local function answered(_, err)
	counts.answers = counts.answers + 1
	if err then
		counts.failures = counts.failures + 1
		counts.reasons[err] = (counts.reasons[err] or 0) + 1
	end
end

local function recall(n)
	mod.get(agent(n), ("where is %s number %d"):format(THINGS[n % #THINGS + 1], n), 5, nil, answered)
end

-- The work of one step: fractions are carried to the next.
local function load_step()
	for _, kind in ipairs({{"emits", emit}, {"recalls", recall}}) do
		local name, act = kind[1], kind[2]
		run.due[name] = run.due[name] + run[name]
		while run.due[name] >= 1 do
			run.due[name] = run.due[name] - 1
			run.number = run.number + 1
			act(run.number)
			if mode == "on" then
				counts[name] = counts[name] + 1
			end
		end
	end
end

local function is_quiet()
	local s = lorestream.status()
	return s.spooled == 0 and s.folding == 0 and counts.answers == counts.recalls
end

local function start(next_mode)
	mode, run.left = next_mode, run.slice
end

-- Only these leave the server: thousands of values as JSON would take memory that the engine keeps.
local function summary(values_us)
	table.sort(values_us)
	local function percentile(p)
		return values_us[math.max(1, math.ceil(p * #values_us))]
	end
	return {count = #values_us, p50_us = percentile(0.5), p99_us = percentile(0.99)}
end

-- Decides at the end of a step what the next one is.
local function advance()
	run.left = run.left - 1
	if run.left > 0 then
		return
	elseif mode == "on" then
		mode = "drain"
	elseif mode == "drain" and is_quiet() then
		start("off")
	elseif mode == "off" then
		run.slices = run.slices - 1
		if run.slices > 0 then
			start("on")
		else
			mode = "idle"
			run.done({on = summary(run.on), off = summary(run.off), counts = counts, turns_per_us = speed()})
		end
	end
end

local function first()
	began_us = cpu_us()
	kept = run and (mode == "on" and run.on or mode == "off" and run.off) or nil
	if kept then
		mod = mode == "on" and lorestream or nothing
		load_step()
		if mode == "off" and run.filler > 0 then
			loop(run.filler)
		end
	end
end

local function last()
	if kept then
		kept[#kept + 1] = cpu_us() - began_us
	end
	if mode ~= "idle" then
		advance()
	end
end

core.register_on_mods_loaded(function()
	local steps = core.registered_globalsteps
	local function place(step, index)
		table.insert(steps, index, step)
		core.callback_origins[step] = {mod = "pace", name = "pace"}
	end
	for i, step in ipairs(steps) do
		local origin = core.callback_origins[step]
		if origin and origin.mod == "lorestream" then
			steps[i] = function(dtime)
				if mode ~= "off" then
					step(dtime)
				end
			end
			core.callback_origins[steps[i]] = origin
		end
	end
	place(first, 1)
	place(last, #steps + 1)
end)

pace = {
	-- slice: steps of a slice; slices: how many of each kind; emits, recalls: per step; filler: turns of the loop in each
	-- step without the mod. done({on, off, counts, turns_per_us}): on, off: {count, p50_us, p99_us} of the CPU time.
	start = function(slice, slices, emits, recalls, filler, done)
		run = {slice = slice, slices = slices, emits = emits, recalls = recalls, filler = filler, done = done,
			number = run and run.number or 0, due = {emits = 0, recalls = 0}, on = {}, off = {}}
		start("on")
	end,
	-- Sends count requests without the mod, at most per_step at once. done(true): all have ended.
	bare = function(http, url, body, count, per_step, done)
		local flying = {}
		core.register_globalstep(function()
			for i = #flying, 1, -1 do
				if http.fetch_async_get(flying[i]).completed then
					table.remove(flying, i)
				end
			end
			for _ = 1, math.min(per_step - #flying, count) do
				count = count - 1
				flying[#flying + 1] = http.fetch_async({url = url, method = "POST", timeout = 10, data = body,
					extra_headers = {"Content-Type: application/json"}})
			end
			if count == 0 and #flying == 0 and done then
				done(true)
				done = nil
			end
		end)
	end,
	http = core.request_http_api(),
}
