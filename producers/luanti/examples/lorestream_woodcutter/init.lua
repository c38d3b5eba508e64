-- A woodcutter: cuts the trees that he sees, plants new ones, and goes back when they have grown.

local agents = lorestream_agents

local CUT_S = 1
local MAX_HEIGHT = 12
-- devtest's trunks are in no group.
local TRUNKS = {"group:tree", "basenodes:tree", "basenodes:jungletree", "basenodes:pine_tree"}
local SAPLINGS = {
	["default:tree"] = "default:sapling",
	["default:jungletree"] = "default:junglesapling",
	["default:pine_tree"] = "default:pine_sapling",
	["default:acacia_tree"] = "default:acacia_sapling",
	["default:aspen_tree"] = "default:aspen_sapling",
}

local function is_trunk(pos)
	local name = core.get_node(pos).name
	return core.get_item_group(name, "tree") > 0 or table.indexof(TRUNKS, name) > 0
end

-- Cuts the whole trunk at a position, from its foot. Returns the number of logs.
local function cut(agent, pos)
	local foot = vector.new(pos)
	while is_trunk(vector.offset(foot, 0, -1, 0)) do
		foot.y = foot.y - 1
	end
	local logs, name = 0, nil
	for up = 0, MAX_HEIGHT do
		local log = vector.offset(foot, 0, up, 0)
		if not is_trunk(log) then
			break
		end
		agent:spend(CUT_S)
		local dug = agent:dig(log)
		if not dug then
			break
		end
		logs, name = logs + 1, name or dug
	end
	local sapling = SAPLINGS[name]
	if sapling and core.get_item_group(core.get_node(vector.offset(foot, 0, -1, 0)).name, "soil") > 0 then
		-- core.place_node fails for them: minetest_game wants a player who plants.
		core.set_node(foot, {name = sapling})
	end
	agent:count("wood", logs)
	return logs
end

local job = {
	kind = "trees",
	nodes = TRUNKS,
	one = "a tree",
	many = "trees",
	reach = 2,
	work = cut,
	work_s = CUT_S,
	patch = 12,
	regrow_s = tonumber(core.settings:get("lorestream_woodcutter.regrow")) or 1200,
	least_rate = 0.1,
}

agents.register({
	name = "lorestream_woodcutter:woodcutter",
	title = "Woodcutter",
	command = "woodcutter",
	sight = 12,
	speed = 4,
	live = function(agent)
		agents.gather(agent, job)
	end,
})
