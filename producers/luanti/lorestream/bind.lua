-- Gives entities an agent id that lasts: it is kept behind the entity's own staticdata, as a Lua comment, so that data
-- from core.serialize can still be read if the mod lorestream is removed.

local Bindings = {}
Bindings.__index = Bindings

local MARK = "\n--lorestream_agent="

-- agent_fault(id) returns why it cannot be the id of an agent, or nil.
function Bindings.new(agent_fault)
	return setmetatable({agent_fault = agent_fault, agents = setmetatable({}, {__mode = "k"}), prepared = {}}, Bindings)
end

-- The entity's own staticdata and the agent id, or the data as they are and nil.
function Bindings.split(staticdata)
	if type(staticdata) ~= "string" then
		return staticdata, nil
	end
	local start = staticdata:find(MARK, 1, true)
	if not start then
		return staticdata, nil
	end
	return staticdata:sub(1, start - 1), staticdata:sub(start + #MARK)
end

-- The Lua entity of an object; anything else is returned as it is.
local function entity_of(object)
	if type(object) == "userdata" then
		return object.get_luaentity and object:get_luaentity()
	end
	return object
end

-- The agent id of a Lua entity or its object, or nil.
function Bindings:agent_of(object)
	local entity = entity_of(object)
	return entity and self.agents[entity]
end

-- Saves the agent id with this entity. Only the entity itself is changed, not its definition.
function Bindings:keep(entity)
	local original = entity.get_staticdata
	entity.get_staticdata = function(self_entity, ...)
		local data = original and original(self_entity, ...)
		local agent_id = self.agents[self_entity]
		if not agent_id then
			return data
		end
		return (self.split(type(data) == "string" and data or "")) .. MARK .. agent_id
	end
end

-- Returns the agent id, or nil and the reason.
function Bindings:bind(entity, agent_id)
	entity = entity_of(entity)
	if type(entity) ~= "table" or not entity.object then
		return nil, "entity must be a Lua entity or its object"
	end
	local fault = self.agent_fault(agent_id)
	if not self.prepared[entity.name] then
		return nil, "an entity of this type would not get its agent_id back: " .. tostring(entity.name)
	elseif fault then
		return nil, fault
	end
	local bound = self.agents[entity] ~= nil
	self.agents[entity] = agent_id
	if not bound then
		self:keep(entity)
	end
	return agent_id
end

-- Changes the definition of an entity, so that saved entities get their agent id back.
function Bindings:restore_in(prototype)
	self.prepared[prototype.name] = true
	local on_activate = prototype.on_activate
	prototype.on_activate = function(entity, staticdata, ...)
		local own, agent_id = self.split(staticdata)
		if agent_id then
			self.agents[entity] = agent_id
			self:keep(entity)
		end
		if on_activate then
			return on_activate(entity, own, ...)
		end
	end
end

return Bindings
