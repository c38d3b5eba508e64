-- Which players must not be recorded. Opt-outs are kept in the mod's storage.

local Privacy = {}
Privacy.__index = Privacy

function Privacy.new(storage)
	return setmetatable({storage = storage, out = {}}, Privacy)
end

-- Whether this player has opted out; false for what is no name.
function Privacy:opted_out(name)
	if type(name) ~= "string" then
		return false
	end
	local out = self.out[name]
	if out == nil then
		out = self.storage:get_string("optout:" .. name) ~= ""
		self.out[name] = out
	end
	return out
end

function Privacy:set(name, out)
	self.out[name] = out
	self.storage:set_string("optout:" .. name, out and "1" or "")
end

-- The player that an agent is named after: NAME in "player:NAME" and "…:player:NAME"; nil for other agents.
function Privacy.player_of(agent_id)
	return agent_id:match("^.*:player:(.+)$") or agent_id:match("^player:(.+)$")
end

-- Whether the agent is named after a player who has opted out.
function Privacy:is_agent_of_opted_out(agent_id)
	local name = type(agent_id) == "string" and agent_id:find("player:", 1, true) and self.player_of(agent_id)
	return name and self:opted_out(name) or false
end

-- Whether the event is about a player who has opted out, or is a memory of that player's agent.
function Privacy:forbids(event)
	if event.player and self:opted_out(event.player) or self:is_agent_of_opted_out(event.agent_id) then
		return true
	end
	if event.about then
		for _, name in ipairs(event.about) do
			if self:opted_out(name) or self:is_agent_of_opted_out(name) then
				return true
			end
		end
	end
	return false
end

return Privacy
