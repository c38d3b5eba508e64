-- The memory of the woodcutter, and where it goes because of it. All calls of lorestream are in this file: copy it
-- for a character of your own.

local memory = {}

-- How far the woodcutter sees, and how far it walks to a remembered place, in nodes.
memory.SIGHT = 10
local FAR = 100

-- nil without the mod lorestream: the woodcutter then has no memory.
local lorestream = rawget(_G, "lorestream")

local function same_place(a, b)
	return vector.distance(a, b) < 2
end

-- Writes a memory of a visit. outcome: "success" or "failure".
function memory.remember(agent_id, pos, node_name, outcome)
	if not lorestream then
		return
	end
	local what = node_name:match(":(.*)$") or node_name
	local text = outcome == "success" and "I found a tree and cut it: " .. what:gsub("_", " ")
		or "I came for a tree, but none was left here"
	lorestream.put(agent_id, text, {pos = vector.round(pos), resource = "tree", node = node_name, outcome = outcome})
end

-- The nearest place with a remembered tree, unless a newer visit there found none.
local function best_place(memories, pos)
	local best, newest = nil, {}
	for _, found in ipairs(memories) do
		local place = found.pos
		if type(place) == "table" and place.x and place.y and place.z then
			local known
			for _, visit in ipairs(newest) do
				if same_place(visit.pos, place) then
					known = visit
				end
			end
			if not known then
				newest[#newest + 1] = found
			elseif (found.timestamp or 0) > (known.timestamp or 0) then
				known.timestamp, known.metadata = found.timestamp, found.metadata
			end
		end
	end
	for _, visit in ipairs(newest) do
		local good = type(visit.metadata) == "table" and visit.metadata.outcome == "success"
		if good and (not best or vector.distance(pos, visit.pos) < vector.distance(pos, best)) then
			best = vector.new(visit.pos.x, visit.pos.y, visit.pos.z)
		end
	end
	return best
end

-- Without a memory: the nearest visible tree, or a random direction.
local function by_sight(pos)
	local tree = core.find_node_near(pos, memory.SIGHT, {"group:tree"}, true)
	if tree then
		return tree, "I see a tree"
	end
	local away = vector.new(math.random(-memory.SIGHT, memory.SIGHT), 0, math.random(-memory.SIGHT, memory.SIGHT))
	return vector.add(vector.round(pos), away), "I see no tree and walk around"
end

-- Decides where to go next. Calls callback(target, why) exactly once.
function memory.plan(agent_id, pos, callback)
	local function decide(memories, err)
		local place = best_place(memories, pos)
		if place then
			return callback(place, ("I remember %d visits and go back to where a tree was"):format(#memories))
		end
		local target, why = by_sight(pos)
		callback(target, (err and "the memory search failed (" .. err .. "): " or "I remember no tree: ") .. why)
	end
	if not lorestream then
		return decide({}, "no mod lorestream")
	end
	lorestream.recall(agent_id, {
		query = "where did I find trees",
		k = 20,
		filters = {resource = "tree"},
		near = {x = pos.x, y = pos.y, z = pos.z, radius = FAR},
	}, decide)
end

return memory
