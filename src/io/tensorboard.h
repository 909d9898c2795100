// TensorBoard event files, written by hand: records of the TFRecord format around small protocol
// buffers with one scalar each.
//
// A record is: u64 length, u32 masked CRC-32C of these 8 bytes, the bytes, u32 masked CRC-32C of
// them, all little-endian. An event has the fields wall_time (1, double), step (2, int64),
// file_version (3, string; of the first event) and summary (5), a message of values (1) with tag
// (1, string) and simple_value (2, float).
//
// Non-goals: reading, images, histograms.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace accrete {

// CRC-32C (Castagnoli), and as TFRecord masks it: rotated right by 15, plus 0xa282ead8.
uint32_t crc32c(std::string_view bytes);
uint32_t masked_crc32c(std::string_view bytes);

// `event` with its frame.
std::string tfrecord(std::string_view event);
// The first event of a file.
std::string version_event(double wall_time);
std::string scalar_event(double wall_time, int64_t step, std::string_view tag, float value);

}  // namespace accrete
