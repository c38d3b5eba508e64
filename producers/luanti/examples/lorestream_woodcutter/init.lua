-- The entity: it plans, walks, cuts, rests, and plans again. Its memory is in memory.lua.

local memory = dofile(core.get_modpath(core.get_current_modname()) .. "/memory.lua")

local REST_S = tonumber(core.settings:get("lorestream_woodcutter.rest")) or 5
local SPEED = 2
local REACH = 2.5
local TIRED_S = 30

local function say(self, text)
	core.log("action", ("[lorestream_woodcutter] %s: %s"):format(self.agent_id, text))
end

local function rest(self, seconds)
	self.state, self.wait = "rest", seconds
	self.object:set_velocity({x = 0, y = self.object:get_velocity().y, z = 0})
end

-- Cuts the tree at or around the target, and remembers the outcome.
local function cut(self, pos)
	local tree = core.find_node_near(self.target, 2, {"group:tree"}, true)
	if not tree or core.is_protected(tree, "") then
		say(self, "no tree at " .. core.pos_to_string(self.target))
		memory.remember(self.agent_id, self.target, "default:tree", "failure")
		return rest(self, 1)
	end
	local node = core.get_node(tree)
	core.remove_node(tree)
	core.add_item(pos, node.name)
	core.check_for_falling(tree)
	say(self, ("cut %s at %s"):format(node.name, core.pos_to_string(tree)))
	memory.remember(self.agent_id, tree, node.name, "success")
	rest(self, REST_S)
end

local states = {}

function states.rest(self, dtime)
	self.wait = self.wait - dtime
	if self.wait > 0 then
		return
	end
	self.state = "plan"
	memory.plan(self.agent_id, self.object:get_pos(), function(target, why)
		-- The entity may have been unloaded in the meantime.
		if not self.object:get_pos() then
			return
		end
		self.target, self.walked, self.state = target, 0, "walk"
		say(self, ("%s: going to %s"):format(why, core.pos_to_string(target)))
	end)
end

function states.plan() end

function states.walk(self, dtime)
	local pos = self.object:get_pos()
	local way = vector.subtract(self.target, pos)
	way.y = 0
	self.walked = self.walked + dtime
	if vector.length(way) <= REACH then
		return cut(self, pos)
	elseif self.walked > TIRED_S then
		say(self, "cannot reach " .. core.pos_to_string(self.target))
		return rest(self, 1)
	end
	local velocity = vector.multiply(vector.normalize(way), SPEED)
	velocity.y = self.object:get_velocity().y
	self.object:set_velocity(velocity)
	self.object:set_yaw(core.dir_to_yaw(way))
end

core.register_entity("lorestream_woodcutter:woodcutter", {
	initial_properties = {
		visual = "mesh",
		mesh = "character.b3d",
		textures = {"character.png"},
		physical = true,
		collide_with_objects = false,
		collisionbox = {-0.3, 0, -0.3, 0.3, 1.7, 0.3},
		stepheight = 1.1,
		nametag = "Woodcutter",
	},
	on_activate = function(self, staticdata)
		self.agent_id = staticdata ~= "" and staticdata or "npc:woodcutter-1"
		self.state, self.wait = "rest", 0.5
		self.object:set_acceleration({x = 0, y = -9.81, z = 0})
		self.object:set_armor_groups({immortal = 1})
	end,
	get_staticdata = function(self)
		return self.agent_id
	end,
	on_step = function(self, dtime)
		states[self.state](self, dtime)
	end,
})

core.register_chatcommand("woodcutter", {
	params = "[NUMBER]",
	description = "Adds a woodcutter at your position; the same number has the same memory",
	privs = {server = true},
	func = function(name, param)
		local player = core.get_player_by_name(name)
		if not player then
			return false, "You must be in the world"
		end
		local agent_id = "npc:woodcutter-" .. (param:match("^%d+$") or "1")
		core.add_entity(player:get_pos(), "lorestream_woodcutter:woodcutter", agent_id)
		return true, agent_id .. " was added"
	end,
})
