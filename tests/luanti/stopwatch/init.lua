-- Measures every server step of the mod lorestream with two clocks: wall time, and CPU time of the server's thread,
-- which excludes time spent waiting for the scheduler. After each step an empty Lua loop uses the same CPU time: its
-- wall time shows the noise of the machine.

local insecure = assert(core.request_insecure_environment(), "secure.trusted_mods = stopwatch")
local ffi, debug = insecure.require("ffi"), insecure.debug

ffi.cdef([[
typedef struct { long s; long ns; } stopwatch_time;
typedef struct { long others[16]; long voluntary; long involuntary; } stopwatch_usage;
int clock_gettime(int clock, stopwatch_time *time);
int getrusage(int who, stopwatch_usage *usage);
]])

-- Linux's numbers.
local MONOTONIC, THREAD_CPU, THIS_THREAD = 1, 3, 1
-- The result of a step: the part of the mod with the most CPU time, and these values.
local PARTS = {
	sender = {"fire", "judge", "parse"},
	spool = {"due", "put", "take", "done", "tend"},
	folds = {"step"},
	http = {"fetch_async", "fetch_async_get"},
}

local time, usage = ffi.new("stopwatch_time"), ffi.new("stopwatch_usage")

local function now_us(clock)
	ffi.C.clock_gettime(clock, time)
	return tonumber(time.s) * 1e6 + tonumber(time.ns) / 1e3
end

-- Number of context switches of the thread, voluntary and involuntary.
local function switches()
	ffi.C.getrusage(THIS_THREAD, usage)
	return tonumber(usage.voluntary + usage.involuntary)
end

-- Runs work() and returns its wall time and its CPU time in microseconds, and its switches.
local function measure(work, ...)
	local left = switches()
	local wall, cpu = now_us(MONOTONIC), now_us(THREAD_CPU)
	work(...)
	cpu = now_us(THREAD_CPU) - cpu
	wall = now_us(MONOTONIC) - wall
	return wall, cpu, switches() - left
end

local function loop(turns)
	local x = 0
	for i = 1, turns do
		x = (x * 31 + i) % 65537
	end
	return x
end

local steps, noise = {}, {}
-- For the current step: the CPU time of each part without nested parts, and the CPU time of nested parts.
local parts, within = nil, 0

local function split(object, label, name)
	local original = object[name]
	object[name] = function(...)
		if not parts then
			return original(...)
		end
		local outer, began = within, now_us(THREAD_CPU)
		within = 0
		local result = original(...)
		local cpu = now_us(THREAD_CPU) - began
		parts[label] = (parts[label] or 0) + cpu - within
		within = outer + cpu
		return result
	end
end

local function worst_part()
	local name, most = "other", 0
	for label, cpu in pairs(parts) do
		if cpu > most then
			name, most = label, cpu
		end
	end
	return name
end

local turns_per_us

-- The mod has two functions in a step: is_first tells which one this is.
local function watched(step, is_first)
	return function(dtime)
		parts = {}
		local wall, cpu, left = measure(step, dtime)
		local last = steps[#steps]
		if is_first then
			steps[#steps + 1] = {wall_us = wall, cpu_us = cpu, switches = left, part = worst_part()}
		elseif last then
			last.wall_us, last.cpu_us, last.switches = last.wall_us + wall, last.cpu_us + cpu, last.switches + left
		end
		parts = nil
		wall = measure(loop, math.floor(cpu * turns_per_us))
		noise[#noise + 1] = {wall_us = wall}
	end
end

-- All upvalues of a function, and of the functions among them, by name.
local function upvalues(fn, found, seen)
	seen[fn] = true
	for i = 1, math.huge do
		local name, value = debug.getupvalue(fn, i)
		if not name then
			return found
		elseif type(value) == "function" and not seen[value] then
			upvalues(value, found, seen)
		else
			found[name] = value
		end
	end
end

local function split_all(step)
	local inner = upvalues(step, {}, {})
	inner.folds = inner.recorder.folds
	inner.sender.http = table.copy(inner.sender.http)
	inner.http = inner.sender.http
	for object, names in pairs(PARTS) do
		for _, name in ipairs(names) do
			split(inner[object], object .. "." .. name, name)
		end
	end
end

core.register_on_mods_loaded(function()
	loop(1e6)
	local _, cpu = measure(loop, 1e7)
	turns_per_us = 1e7 / cpu
	local is_first = true
	for i, step in ipairs(core.registered_globalsteps) do
		local origin = core.callback_origins[step]
		if origin and origin.mod == "lorestream" then
			if is_first then
				split_all(step)
			end
			core.registered_globalsteps[i] = watched(step, is_first)
			is_first = false
			core.callback_origins[core.registered_globalsteps[i]] = origin
		end
	end
end)

-- Every step since the last call: {steps = {{wall_us, cpu_us, switches, part}, …}, noise = {{wall_us}, …}}.
stopwatch = {take = function()
	local taken = {steps = steps, noise = noise}
	steps, noise = {}, {}
	return taken
end}
