-- What a character believes about places, from his memories of them. Pure: no engine, no service.
--
-- A memory of a place has metadata.outcome:
--   "found"        amount: how much he took away, left: how much he left behind
--   "nothing"      he came, and there was nothing
--   "unreachable"  he found no way to it
--   "hurt"         amount: the damage

-- Argument: weight.lua.
local weight = ...
local places = {}

-- After this time, what could not be reached is tried again, in seconds.
places.RETRY_S = 3600
-- What a visit in vain leaves of the hope to find something.
local HOPE = 0.25

function places.distance(a, b)
	return math.sqrt((a.x - b.x) ^ 2 + (a.y - b.y) ^ 2 + (a.z - b.z) ^ 2)
end

-- Memories (the newest first) that lie within radius of each other, as places: a list of
-- {pos (of the newest memory), memories (the newest first)}.
function places.group(memories, radius)
	local found = {}
	for _, memory in ipairs(memories) do
		if memory.pos then
			local place
			for _, known in ipairs(found) do
				if not place and places.distance(known.pos, memory.pos) <= radius then
					place = known
				end
			end
			if not place then
				place = {pos = memory.pos, memories = {}}
				found[#found + 1] = place
			end
			place.memories[#place.memories + 1] = memory
		end
	end
	return found
end

-- How much a character expects at a place at a time. regrow_s: after this time what was taken has grown again; nil: it
-- doesn't. A visit in vain leaves little hope: the place may be gone for good.
function places.expected(place, time_s, regrow_s)
	local newest = place.memories[1]
	local age = math.max(0, time_s - newest.timestamp)
	local hope = 1
	for _, memory in ipairs(place.memories) do
		local about = memory.metadata
		if about.outcome == "found" then
			local grown = regrow_s and age >= regrow_s
			local left = memory == newest and about.left or 0
			return hope * (left + (grown and about.amount or 0))
		elseif about.outcome == "unreachable" and age < places.RETRY_S then
			return 0
		end
		hope = hope * HOPE
	end
	return 0
end

-- The place that promises the most for the time that it takes. options: from (position), now_s, regrow_s, speed (nodes
-- per second), work_s (seconds of work for one unit), room (units that he can carry).
-- Returns the place and the units per second, or nil and 0.
function places.best(all, options)
	local best, best_rate = nil, 0
	for _, place in ipairs(all) do
		local way_s = places.distance(place.pos, options.from) / options.speed
		local expected = places.expected(place, options.now_s + way_s, options.regrow_s)
		local units = math.min(options.room or math.huge, expected)
		local rate = units / (way_s + units * options.work_s + 1)
		if rate > best_rate then
			best, best_rate = place, rate
		end
	end
	return best, best_rate
end

-- Where he was hurt, as {pos, damage}: the damage fades with its age. half_life_s in seconds.
function places.dangers(memories, now_s, half_life_s)
	local found = {}
	for _, place in ipairs(places.group(memories, 2)) do
		local damage = 0
		for _, memory in ipairs(place.memories) do
			damage = math.max(damage, (memory.metadata.amount or 0) * weight(memory, now_s, half_life_s))
		end
		found[#found + 1] = {pos = place.pos, damage = damage}
	end
	return found
end

-- Whether a position, or one right above or below it, could not be reached lately.
function places.is_unreachable(memories, pos, now_s)
	for _, memory in ipairs(memories) do
		local at = memory.pos
		if memory.metadata.outcome == "unreachable" and at and now_s - memory.timestamp < places.RETRY_S
			and math.abs(at.x - pos.x) <= 1 and math.abs(at.z - pos.z) <= 1 and math.abs(at.y - pos.y) <= 4 then
			return true
		end
	end
	return false
end

return places
