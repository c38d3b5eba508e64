-- Messages to admins (players with the privilege server): now, and when one joins while the trouble lasts.

local Notices = {}
Notices.__index = Notices

-- core: the engine. S: the translator of the mod.
function Notices.new(core, S)
	return setmetatable({core = core, S = S}, Notices)
end

-- Sends the message to an admin; does nothing for other players.
function Notices:send(name, text)
	if self.core.check_player_privs(name, {server = true}) then
		self.core.chat_send_player(name, self.S("[Lorestream] @1", text))
	end
end

-- text: translated by S. Admins who join later get the last one too, until it is withdrawn.
function Notices:warn(text)
	self.last = text
	for _, player in ipairs(self.core.get_connected_players()) do
		self:send(player:get_player_name(), text)
	end
end

function Notices:withdraw()
	self.last = nil
end

function Notices:greet(player)
	if self.last then
		self:send(player:get_player_name(), self.last)
	end
end

return Notices
