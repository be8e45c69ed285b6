#!/usr/bin/env ruby
# Posts a command: mailbox.rb redis://HOST:6379 SERIAL '{"queryStatus": {}}' [ID]. Docs/VENDOR.md, "The mailbox".
require "json"
require "redis"
require "securerandom"

class Mailbox
  POST = File.read(File.join(__dir__, "mailbox_post.lua"))

  def initialize(connection, cluster = "main")
    @connection = connection
    @keys = %w[mail letters marks ended].map { |key| "{cd:#{cluster}}:#{key}" }
  end

  # "posted", "waiting" or "ended". When the reply is lost, post again under the same id.
  def post(serial, command, id = SecureRandom.hex(16))
    @connection.eval(POST, @keys, [serial, id, JSON.generate(command)])
  end
end

if $PROGRAM_NAME == __FILE__
  url, serial, command, *id = ARGV
  puts Mailbox.new(Redis.new(url: url)).post(serial, JSON.parse(command), *id)
end
