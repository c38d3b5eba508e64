-- Two players who live for some time as players do: they dig and build in runs, craft, eat, trade, fight, talk, walk.
-- The driver calls it with NAMES, SECONDS and SPEED (how many times faster than a game) put before it.

local DUG = {"default:stone", "default:stone", "default:stone", "default:dirt", "default:tree",
	"default:stone_with_coal", "default:stone_with_iron", "default:sand", "default:gravel", "default:pine_tree"}
local PLACED = {"default:cobble", "default:wood", "default:torch", "default:stonebrick", "stairs:slab_wood",
	"default:glass"}
local CRAFTED = {"default:torch 4", "default:wood 4", "default:pick_stone", "default:stick 4",
	"default:chest", "default:furnace", "default:ladder_wood 3", "default:pick_steel"}
local EATEN = {"default:apple", "default:blueberries"}
local KEPT = {"default:cobble", "default:coal_lump", "default:iron_lump", "default:wood"}
local MOBS = {"cast:cow", "cast:sheep", "cast:pig"}
local TOOLS = {"default:pick_stone", "default:pick_steel", "default:axe_steel", "default:sword_steel"}
local SAID = {"hello", "who has iron for me?", "I need wood for the roof", "look, a cave", "where are you?",
	"come to the mill", "I found coal in the north", "careful, a wolf", "the bridge is done", "see you tomorrow",
	"let us meet at %d %d", "I sell %d cobble", "I have %d coal now"}
local AROUND = 40 -- players wander in a square of this half side, in nodes

local random = PcgRandom(7)
local function roll(low, high)
	return random:next(low, high)
end
local function any(list)
	return list[roll(1, #list)]
end

local deeds = {}

local function run_of(count, each)
	return {left = count, each = each}
end

function deeds.dig(player, at)
	local node = any(DUG)
	player:set_wielded_item(any(TOOLS))
	return run_of(math.floor(1 + 12 * (roll(0, 1000) / 1000) ^ 2), function(n)
		local pos = vector.offset(at, n % 4, 0, math.floor(n / 4) % 4)
		core.set_node(pos, {name = node})
		core.node_dig(pos, core.get_node(pos), player)
	end)
end

function deeds.place(player, at)
	local item = any(PLACED)
	return run_of(math.floor(1 + 15 * (roll(0, 1000) / 1000) ^ 2), function(n)
		local under = vector.offset(at, n % 4, -1, math.floor(n / 4) % 4)
		core.set_node(under, {name = "default:dirt"})
		core.remove_node(vector.offset(under, 0, 1, 0))
		core.item_place_node(ItemStack(item), player, {type = "node", under = under, above = vector.offset(under, 0, 1, 0)})
	end)
end

function deeds.craft(player)
	local item = any(CRAFTED)
	return run_of(roll(1, 3), function()
		for _, crafted in ipairs(core.registered_on_crafts) do
			crafted(ItemStack(item), player, {}, player:get_inventory())
		end
	end)
end

function deeds.eat(player)
	local item = any(EATEN)
	return run_of(roll(1, 2), function()
		core.registered_items[item].on_use(ItemStack(item .. " 3"), player, {})
	end)
end

function deeds.chest(player, at)
	local stack = ItemStack(any(KEPT) .. " " .. roll(1, 60))
	local kind = roll(1, 2) == 1 and "put" or "take"
	return run_of(1, function()
		core.set_node(at, {name = "default:chest"})
		core.registered_nodes["default:chest"]["on_metadata_inventory_" .. kind](at, "main", 1, stack, player)
	end)
end

function deeds.shop(player, at)
	return run_of(1, function()
		player:get_inventory():set_list("main", {"", "default:gold_ingot 9"})
		core.set_node(at, {name = "cast:shop"})
		core.registered_nodes["cast:shop"].on_receive_fields(at, "", {buy = "1"}, player)
	end)
end

function deeds.hunt(player, at)
	player:set_wielded_item("default:sword_steel")
	local mob = core.add_entity(at, any(MOBS))
	return run_of(roll(1, 3), function()
		if mob and mob:get_pos() then
			mob:punch(player, 1, {damage_groups = {fleshy = 1}})
		end
	end)
end

function deeds.say(player)
	local words = any(SAID):gsub("%%d", function() return tostring(roll(-300, 300)) end)
	return run_of(1, function()
		core.run_callbacks(core.registered_on_chat_messages, 5, player:get_player_name(), words)
	end)
end

function deeds.fall(player)
	return run_of(1, function()
		player:set_hp(math.max(1, player:get_hp() - roll(1, 4)), {type = "fall"})
		player:set_hp(20)
	end)
end

-- As often as players do it, out of 100.
local SHARES = {dig = 38, place = 22, craft = 9, eat = 5, chest = 8, shop = 3, hunt = 6, say = 7, fall = 2}
local DRAWN = {}
for _, name in ipairs({"dig", "place", "craft", "eat", "chest", "shop", "hunt", "say", "fall"}) do
	for _ = 1, SHARES[name] do
		DRAWN[#DRAWN + 1] = name
	end
end

local function live(name, until_us)
	local player = core.get_player_by_name(name)
	if not player or core.get_us_time() > until_us then
		return
	end
	local x, z = roll(-AROUND, AROUND), roll(-AROUND, AROUND)
	if roll(1, 4) == 1 then
		player:set_pos({x = x, y = 1, z = z})
	end
	local at = vector.round(vector.offset(player:get_pos(), 2, 0, 2))
	local run = deeds[any(DRAWN)](player, at)
	local function step(n)
		if n < run.left and core.get_player_by_name(name) then
			run.each(n)
			core.after(0.8 / SPEED, step, n + 1)
		else
			core.after((0.5 + roll(0, 30) / 10) / SPEED, live, name, until_us)
		end
	end
	step(0)
end

local corner = AROUND + 8
core.emerge_area(vector.new(-corner, -8, -corner), vector.new(corner, 8, corner), function(_, _, remaining)
	if remaining > 0 then
		return
	end
	for x = -AROUND - 6, AROUND + 6 do
		for z = -AROUND - 6, AROUND + 6 do
			core.set_node({x = x, y = 0, z = z}, {name = "default:dirt"})
		end
	end
	for _, name in ipairs(NAMES) do
		core.get_player_by_name(name):set_pos({x = 0, y = 1, z = 0})
		live(name, core.get_us_time() + SECONDS * 1e6)
	end
	done(true)
end)
