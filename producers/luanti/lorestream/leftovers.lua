-- The segments that earlier runs of the server left in the world's folder.

-- segment.lua, passed in by init.lua.
local Segment = ...

local Leftovers = {}

-- Replaces the content of the file by these lines, with the place of the segment.
local function rewrite(segment, kept)
	local part = segment.path .. ".part"
	local file = io.open(part, "wb")
	if file then
		local written = file:write(Segment.whole(segment.place, kept))
		file:close()
		if written then
			os.rename(part, segment.path)
		end
	end
end

-- The segment in a file, or nil if no lines are left; and the bad lines, see Segment.read_lines(). set_aside(lines) is
-- called before broken lines are removed from the file.
local function find(dir, name, check, set_aside)
	local segment = Segment.new({path = dir .. "/" .. name, saved = true, erase = name:find("%.erase$") ~= nil})
	local lines, bad, place = Segment.read_lines(segment.path, function(line)
		return check(line, segment.erase)
	end)
	if #bad.broken > 0 then
		set_aside(bad.broken)
	end
	if #lines == 0 then
		os.remove(segment.path)
		return nil, bad
	end
	for _, line in ipairs(lines) do
		Segment.count_line(segment, line)
	end
	segment.subject = segment.erase and lines[#lines] or nil
	local run, number = name:match("^(%d+%-%x+)%-(%d+)")
	place = place or number
	segment.place = place:find("-", 1, true) and place or ("%s-%08d"):format(run, tonumber(place))
	if bad.torn > 0 or #bad.broken > 0 then
		rewrite(segment, lines) -- otherwise the next line would continue an incomplete one
	end
	return segment, bad
end

-- Reads the files of earlier runs. check(line, erase) returns false for a line that cannot be sent; such lines go to
-- set_aside(lines). Returns the segments in order, the number of incomplete lines, and the latest start time of a run.
function Leftovers.find_all(dir, names, check, set_aside)
	local found, torn, latest = {}, 0, 0
	for _, name in ipairs(names) do
		if name:find("^%d+%-%x+%-%d+%.ndjson$") or name:find("^%d+%-%x+%-%d+%.erase$") then
			local segment, bad = find(dir, name, check, set_aside)
			torn, latest = torn + bad.torn, math.max(latest, tonumber(name:match("^%d+")))
			found[#found + 1] = segment
		elseif name:find("%.part$") then
			os.remove(dir .. "/" .. name)
		end
	end
	table.sort(found, function(a, b)
		return a.place < b.place or a.place == b.place and a.count > b.count
	end)
	local segments = {}
	for _, segment in ipairs(found) do
		local last = segments[#segments]
		if last and last.place == segment.place then
			-- The file with fewer lines is an unfinished copy, see thinning.lua.
			os.remove(segment.path)
		else
			segments[#segments + 1] = segment
		end
	end
	return segments, torn, latest
end

return Leftovers
