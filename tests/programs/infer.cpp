// y = softmax(relu(x) w) in C++ and nothing else. Reads x from an uncompressed .npz file, and writes y to another one.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

static const int ROWS = 4, COLUMNS = 3;
static const float W[ROWS][COLUMNS] = {{0.5f, -1.0f, 0.25f}, {1.5f, 0.125f, -0.75f}, {-0.5f, 2.0f, 1.0f}, {0.75f, -0.25f, 0.5f}};

template <class T> T number(const std::string &bytes, size_t at) {
    T value;
    std::memcpy(&value, bytes.data() + at, sizeof value);
    return value;
}

// The .npy file of an array in a zip archive whose entries are stored as they are.
std::string entry(const std::string &zip, const std::string &wanted) {
    for (size_t at = 0; at + 30 < zip.size() && number<uint32_t>(zip, at) == 0x04034b50;) {
        uint32_t size = number<uint32_t>(zip, at + 18);
        uint16_t name = number<uint16_t>(zip, at + 26), extra = number<uint16_t>(zip, at + 28);
        size_t content = at + 30 + name + extra;
        if (zip.substr(at + 30, name) == wanted) return zip.substr(content, size);
        at = content + size;
    }
    throw std::runtime_error("no array " + wanted);
}

uint32_t crc32(const std::string &bytes) {
    uint32_t crc = ~0u;
    for (unsigned char byte : bytes) {
        crc ^= byte;
        for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

template <class T> void put(std::string &out, T value) { out.append(reinterpret_cast<char *>(&value), sizeof value); }

// A zip archive with one entry.
std::string archive(const std::string &name, const std::string &content) {
    std::string common, out, directory;
    for (uint16_t field : {0, 0, 0, 33}) put<uint16_t>(common, field);  // flags, stored, time, date
    put<uint32_t>(common, crc32(content));
    put<uint32_t>(common, content.size());
    put<uint32_t>(common, content.size());
    put<uint16_t>(common, name.size());
    put<uint16_t>(common, 0);
    put<uint32_t>(out, 0x04034b50);
    put<uint16_t>(out, 20);
    out += common + name + content;
    put<uint32_t>(directory, 0x02014b50);
    put<uint16_t>(directory, 20);
    put<uint16_t>(directory, 20);
    directory += common + std::string(14, '\0') + name;
    uint32_t where = out.size();
    out += directory;
    put<uint32_t>(out, 0x06054b50);
    for (uint16_t field : {0, 0, 1, 1}) put<uint16_t>(out, field);
    put<uint32_t>(out, directory.size());
    put<uint32_t>(out, where);
    put<uint16_t>(out, 0);
    return out;
}

int main(int count, char **arguments) {
    if (count != 3) return 2;
    std::ifstream file(arguments[1], std::ios::binary);
    std::string zip((std::istreambuf_iterator<char>(file)), {}), npy = entry(zip, "x.npy");
    size_t begin = 10 + number<uint16_t>(npy, 8);
    const float *x = reinterpret_cast<const float *>(npy.data() + begin);
    size_t items = (npy.size() - begin) / sizeof(float) / ROWS;
    std::vector<float> y(items * COLUMNS);
    for (size_t n = 0; n < items; ++n) {
        float z[COLUMNS] = {}, sum = 0;
        for (int r = 0; r < ROWS; ++r)
            for (int c = 0; c < COLUMNS; ++c) z[c] += std::fmax(x[n * ROWS + r], 0.0f) * W[r][c];
        float most = std::fmax(z[0], std::fmax(z[1], z[2]));
        for (float &value : z) sum += value = std::exp(value - most);
        for (int c = 0; c < COLUMNS; ++c) y[n * COLUMNS + c] = z[c] / sum;
    }
    std::ostringstream shape;
    shape << "{'descr': '<f4', 'fortran_order': False, 'shape': (" << items << ", " << COLUMNS << "), }";
    std::string header = shape.str();
    header.append(63 - (10 + header.size()) % 64, ' ').push_back('\n');
    std::string out("\x93NUMPY\x01\x00", 8);
    put<uint16_t>(out, header.size());
    out += header;
    out.append(reinterpret_cast<char *>(y.data()), y.size() * sizeof(float));
    std::ofstream(arguments[2], std::ios::binary) << archive("y.npy", out);
}
