-- The global table `lorestream_agents`. See README.md.

local path = core.get_modpath(core.get_current_modname())
local function part(name, ...)
	return assert(loadfile(path .. "/" .. name .. ".lua"))(...)
end

local remembers = core.settings:get_bool("lorestream_examples.memory", true)
local lorestream = remembers and rawget(_G, "lorestream") or nil
local speed = tonumber(core.settings:get("lorestream_examples.speed")) or 1

-- Seconds that this world has run, with fractions.
local ran_s = 0
core.register_globalstep(function(dtime)
	ran_s = ran_s + dtime
end)

local Agent = part("agent")({
	walk = part("walk")(part("route")),
	Memory = part("memory")(part("notes"), lorestream),
	speed = speed,
	elapsed = function()
		ran_s = math.max(ran_s, core.get_gametime())
		return ran_s
	end,
})

local weight = part("weight")

lorestream_agents = {
	-- Characters in active parts of the world, by id.
	active = {},
	places = part("places", weight),
	wander = part("wander", weight),
	weight = weight,
	dice = Agent.dice,
	remembers = lorestream ~= nil,
}
lorestream_agents.caution = part("caution")(lorestream_agents.places)
lorestream_agents.gather = part("gather")(lorestream_agents)

-- Registers a kind of character. def: name ("MOD:KIND"), title, sight and speed (nodes, nodes per second),
-- live(agent), and as wanted command, textures, on_hurt(agent, amount, source), on_punch(agent, puncher, damage),
-- on_rightclick(agent, player) in place of handing over what he carries.
function lorestream_agents.register(def)
	core.register_entity(def.name, {
		initial_properties = Agent.looks(def),
		on_activate = function(self, staticdata)
			local saved = core.deserialize(staticdata)
			if type(saved) ~= "table" or type(saved.id) ~= "string" then
				return self.object:remove()
			end
			self.agent = Agent.new(def, self.object, saved)
			lorestream_agents.active[saved.id] = self.agent
		end,
		get_staticdata = function(self)
			return self.agent and core.serialize(self.agent:save()) or ""
		end,
		on_deactivate = function(self)
			if self.agent and lorestream_agents.active[self.agent.id] == self.agent then
				lorestream_agents.active[self.agent.id] = nil
			end
		end,
		on_step = function(self, dtime)
			if self.agent then
				self.agent:step(dtime)
			end
		end,
		on_punch = function(self, puncher, _, tool)
			local groups = type(tool) == "table" and tool.damage_groups or {}
			local damage = groups.fleshy or 1
			self.agent:hurt(damage, "punch")
			if def.on_punch and puncher then
				def.on_punch(self.agent, puncher, damage)
			end
			return true
		end,
		on_rightclick = function(self, clicker)
			if clicker and clicker:is_player() then
				(def.on_rightclick or self.agent.give)(self.agent, clicker)
			end
		end,
	})
	if def.command then
		core.register_chatcommand(def.command, {
			params = "[NUMBER]",
			description = ("Adds a %s at your position; the same number has the same memories"):format(def.title),
			privs = {server = true},
			func = function(name, param)
				local player = core.get_player_by_name(name)
				if not player then
					return false, "You must be in the world"
				end
				local number = param:match("^%d+$") or "1"
				local agent = lorestream_agents.add(def.name, player:get_pos(), {number = number})
				return agent ~= nil, agent and agent.id .. " was added" or "It could not be added here"
			end,
		})
	end
end

-- Adds a character of a registered kind. options: number (its id is SERVER/npc:KIND-NUMBER), seed (for its random
-- decisions). Returns the agent, or nil if the position is not loaded.
function lorestream_agents.add(name, pos, options)
	local id = ("npc:%s-%s"):format(name:match(":(.*)$"), options.number)
	-- Characters of two worlds with one service do not share memories.
	id = lorestream and lorestream.agent_id(id) or id
	local object = core.add_entity(pos, name, core.serialize({id = id, seed = options.seed}))
	local entity = object and object:get_luaentity()
	if entity and lorestream then
		-- He also remembers who strikes him.
		lorestream.bind(object, id)
	end
	return entity and entity.agent
end
