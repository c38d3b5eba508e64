-- Reads the mod's settings. A value outside its limits is replaced by the nearest one within them, and logged: the
-- gateway would refuse every event because of it.

-- settings: core.settings. log(level, text). Returns {text, number, url}. The engine does not apply the defaults in
-- settingtypes.txt.
return function(settings, log)
	local read = {}

	-- A text of at most `most` characters, without control characters and spaces around it; default if it is empty.
	function read.text(name, default, most)
		local value = settings:get("lorestream." .. name) or ""
		value = value:gsub("%c", ""):gsub("^%s+", ""):gsub("%s+$", "")
		if value == "" then
			value = default
		end
		-- Bytes that begin a character.
		local characters = select(2, value:gsub("[^\128-\191]", ""))
		if most and characters > most then
			local left = most
			local cut = value:gsub("[^\128-\191][\128-\191]*", function()
				left = left - 1
				return left < 0 and "" or nil
			end)
			log("error", ("lorestream.%s has %d characters, more than %d: using %s"):format(name, characters, most, cut))
			return cut
		end
		return value
	end

	-- A finite number from least to most.
	function read.number(name, default, least, most)
		local text = read.text(name, tostring(default))
		local value = tonumber(text)
		local used = value and value == value and math.max(least, math.min(most, value)) or default
		if used ~= value then
			log("error", ("lorestream.%s = %s is not a number from %s to %s: using %s"):format(name, text, least, most,
				used))
		end
		return used
	end

	-- A base URL without a slash at its end.
	function read.url(name, default)
		local value = read.text(name, default):gsub("/+$", "")
		if not value:find("^https?://[^%s/]") then
			local is_host = value:find("^[%w%.%-_]+$") or value:find("^[%w%.%-_]+:%d+$") or value:find("^%[[%x:]+%]:?%d*$")
			local used = is_host and "http://" .. value or default
			log("error", ("lorestream.%s = %s is not of the form http://HOST:PORT: using %s"):format(name, value, used))
			return used
		end
		return value
	end

	return read
end
